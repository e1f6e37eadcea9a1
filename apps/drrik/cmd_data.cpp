// drrik data: the rows of a dataset as JSON lines.

#include <iostream>
#include <memory>
#include <optional>
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
            auto skip = std::make_shared<std::int64_t>(0);
            auto seed = std::make_shared<std::optional<std::uint64_t>>();
            add_dataset_settings(app, globals);
            app.add_option("--skip", *skip, "Leave out the first rows (after shuffling)");
            app.add_option("--shuffle-seed", *seed, "Shuffle the rows with this seed");
            return [&globals, skip, seed] {
              DatasetOptions options = dataset_options(globals.config);
              options.skip = *skip;
              options.shuffle_seed = *seed;
              const auto source = open_dataset(options);
              while (auto sample = source->next()) {
                check_interrupt("reading the dataset");
                std::cout << Json{{"text", sample->text}}.dump() << "\n";
              }
            };
          }};
}

}  // namespace drrik::cli
