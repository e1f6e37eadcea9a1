// drrik data: the rows of a dataset as JSON lines.

#include <iostream>
#include <string>

#include "drrik/base/interrupt.h"
#include "drrik/data/source.h"
#include "options.h"

namespace drrik::cli {

Command data_command() {
  return {"data", "Print the rows of a dataset as JSON lines",
          "  drrik data --dataset assets/demo/text.jsonl --num-samples 3\n"
          "  drrik data --dataset 'corpus/*.csv.gz' --text-column body\n"
          "  drrik data --dataset chats.parquet --text-column 'messages[].content'\n"
          "  drrik data --dataset folder --split test --shuffle-seed 1 --skip 100\n",
          [](CLI::App& app, Globals& globals) -> std::function<void()> {
            add_dataset_settings(app, globals);
            return [&globals] {
              const auto source = open_dataset(dataset_options(globals.config));
              while (auto sample = source->next()) {
                check_interrupt("reading the dataset");
                std::cout << Json{{"text", sample->text}}.dump() << "\n";
              }
            };
          }};
}

}  // namespace drrik::cli
