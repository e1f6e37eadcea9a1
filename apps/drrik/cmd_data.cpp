// drrik data: the rows of a dataset as JSON lines.

#include <iostream>
#include <memory>

#include "cli.h"
#include "drrik/base/interrupt.h"
#include "drrik/data/source.h"

namespace drrik::cli {

Command data_command() {
  return {"data", "Print the rows of a dataset as JSON lines",
          "  drrik data --dataset assets/demo/text.jsonl --num-samples 3\n"
          "  drrik data --dataset 'corpus/*.csv.gz' --text-column body\n",
          [](CLI::App& app, Globals&) -> std::function<void()> {
            auto options = std::make_shared<DatasetOptions>();
            auto sample_by = std::make_shared<std::string>("line");
            app.add_option("--dataset", options->path, "File, folder or glob")->required();
            app.add_option("--text-column", options->text_column, "Column that holds the text");
            app.add_option("--num-samples", options->num_samples, "At most so many rows");
            app.add_option("--skip", options->skip, "Leave out the first rows");
            app.add_option("--sample-by", *sample_by, "line, paragraph or document (text files)");
            return [options, sample_by] {
              options->sample_by = parse_sample_by(*sample_by);
              const auto source = open_dataset(*options);
              while (auto sample = source->next()) {
                check_interrupt("reading the dataset");
                std::cout << Json{{"text", sample->text}}.dump() << "\n";
              }
            };
          }};
}

}  // namespace drrik::cli
