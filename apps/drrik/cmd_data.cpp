// drrik data: the rows of a dataset as JSON lines.

#include <iostream>
#include <memory>

#include "drrik/base/interrupt.h"
#include "drrik/data/source.h"
#include "options.h"

namespace drrik::cli {

Command data_command() {
  return {"data", "Print the rows of a dataset as JSON lines",
          "  drrik data --dataset assets/demo/text.jsonl --num-samples 3\n"
          "  drrik data --dataset 'corpus/*.csv.gz' --text-column body\n",
          [](CLI::App& app, Globals& globals) -> std::function<void()> {
            auto skip = std::make_shared<std::int64_t>(0);
            add_dataset_settings(app, globals);
            app.add_option("--skip", *skip, "Leave out the first rows");
            return [&globals, skip] {
              DatasetOptions options = dataset_options(globals.config);
              options.skip = *skip;
              const auto source = open_dataset(options);
              while (auto sample = source->next()) {
                check_interrupt("reading the dataset");
                std::cout << Json{{"text", sample->text}}.dump() << "\n";
              }
            };
          }};
}

}  // namespace drrik::cli
