// drrik-mpi as mpirun starts it, beside drrik on the same work.

#include <gtest/gtest.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <string>
#include <thread>

#include "drrik/base/file.h"
#include "drrik/sae/io.h"

namespace drrik {
namespace {

namespace fs = std::filesystem;

struct Result {
  int exit_code = -1;
  std::string out;
  std::string err;
};

class MpiCommand : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = (fs::temp_directory_path() / "drrik-mpi-XXXXXX").string();
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    folder_ = name;
  }
  void TearDown() override { fs::remove_all(folder_); }

  std::string path(const std::string& name) const { return (folder_ / name).string(); }

  // The child is the program itself, mpirun or drrik, so that it can be sent a signal.
  pid_t start(const std::string& command) const {
    const pid_t child = fork();
    if (child == 0) {
      // Open MPI's own leaks (tests/mpi/CMakeLists.txt); two ranks and their threads on two cores.
      setenv("ASAN_OPTIONS", "detect_leaks=0", 1);
      setenv("OMP_NUM_THREADS", "1", 1);
      setenv("GOMP_SPINCOUNT", "10000", 1);
      const std::string line = "exec " + command + " >" + path("out") + " 2>" + path("err");
      execl("/bin/sh", "sh", "-c", line.c_str(), nullptr);
      _exit(127);
    }
    return child;
  }
  Result wait(pid_t child) const {
    int status = 0;
    waitpid(child, &status, 0);
    return {WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status),
            read_file(path("out")), read_file(path("err"))};
  }
  Result one(const std::string& arguments) const {
    return wait(start(DRRIK_BINARY " " + arguments));
  }
  static std::string command(int ranks, const std::string& arguments) {
    return DRRIK_MPIRUN " " + std::to_string(ranks) + " " DRRIK_MPI_BINARY " " + arguments;
  }
  Result together(int ranks, const std::string& arguments) const {
    return wait(start(command(ranks, arguments)));
  }

  std::string extraction(const std::string& to) const {
    return "extract --model " DRRIK_ASSETS_DIR "/demo/model --dataset " DRRIK_ASSETS_DIR
           "/demo/text.jsonl --layers 1 --positions all --num-samples 40 --max-length 64 "
           "--batch-size 3 --output " +
           path(to);
  }
  // A store to train on, made once.
  std::string store() const {
    if (!fs::exists(folder_ / "store")) {
      EXPECT_EQ(one(extraction("store")).exit_code, 0);
    }
    return path("store");
  }

  fs::path folder_;
};

// Norm of the difference, of the norm of the first.
double relative(MatView<const float> a, MatView<const float> b) {
  EXPECT_EQ(a.rows(), b.rows());
  EXPECT_EQ(a.cols(), b.cols());
  double difference = 0.0;
  double norm = 0.0;
  for (std::int64_t r = 0; r < a.rows(); ++r) {
    for (std::int64_t c = 0; c < a.cols(); ++c) {
      const auto x = static_cast<double>(a(r, c));
      difference += std::pow(x - static_cast<double>(b(r, c)), 2);
      norm += x * x;
    }
  }
  return std::sqrt(difference / norm);
}

// Largest difference of any weight matrix, of its norm.
double difference(const fs::path& a, const fs::path& b) {
  const SparseCoder one = load_sparse_coder(a);
  const SparseCoder two = load_sparse_coder(b);
  return std::max(relative(one.encoder(), two.encoder()), relative(one.decoder(), two.decoder()));
}

std::int64_t lines(const std::string& text) { return std::ranges::count(text, '\n'); }

TEST_F(MpiCommand, ExtractsTheBytesOfOneRank) {
  ASSERT_EQ(one(extraction("one")).exit_code, 0);
  for (const int ranks : {2, 3}) {
    SCOPED_TRACE(ranks);
    const std::string to = "of" + std::to_string(ranks);
    const Result made = together(ranks, extraction(to) + " --json");
    ASSERT_EQ(made.exit_code, 0) << made.err;
    EXPECT_EQ(lines(made.out), 1) << made.out;  // rank 0 alone speaks
    EXPECT_EQ(read_file(folder_ / to / "activations.npy"),
              read_file(folder_ / "one/activations.npy"));
  }
}

TEST_F(MpiCommand, TrainsTheCoderOfOneRank) {
  const std::string arguments = "train --activations " + store() +
                                " --arch batchtopk --hidden-dim 256 --batch-size 100 --steps 20 "
                                "-k 8 --log-level WARNING --json --output ";
  ASSERT_EQ(one(arguments + path("one")).exit_code, 0);
  const Result made = together(2, arguments + path("two"));
  ASSERT_EQ(made.exit_code, 0) << made.err;
  EXPECT_EQ(lines(made.out), 1) << made.out;
  // As docs/scale.md promises of float32: sums in another order, over 20 steps.
  EXPECT_LT(difference(folder_ / "one", folder_ / "two"), 1e-4);
  EXPECT_NE(read_file(folder_ / "two/drrik.json").find("\"ranks\""), std::string::npos);
  EXPECT_FALSE(fs::exists(folder_ / "two/checkpoint.safetensors"));
}

TEST_F(MpiCommand, TrainsLiveTheCoderOfOneRank) {
  const std::string arguments =
      "train --model " DRRIK_ASSETS_DIR "/demo/model --dataset " DRRIK_ASSETS_DIR
      "/demo/text.jsonl --layers 1 --max-length 64 --buffer-rows 1024 --arch topk --hidden-dim 256 "
      "--batch-size 128 --steps 12 -k 8 --log-level WARNING --output ";
  ASSERT_EQ(one(arguments + path("one")).exit_code, 0);
  const Result made = together(2, arguments + path("two"));
  ASSERT_EQ(made.exit_code, 0) << made.err;
  EXPECT_LT(difference(folder_ / "one", folder_ / "two"), 1e-4);
}

TEST_F(MpiCommand, BfloatProductsStartAsThoseOfOneRank) {
  const std::string arguments = "train --activations " + store() +
                                " --arch topk --hidden-dim 256 --batch-size 100 -k 8 --compute "
                                "bfloat16 --log-level WARNING";
  ASSERT_EQ(one(arguments + " --steps 1 --output " + path("one")).exit_code, 0);
  ASSERT_EQ(together(2, arguments + " --steps 1 --output " + path("two")).exit_code, 0);
  // The first products are of the same weights. Later a last bit of float32 decides how a weight
  // rounds to bfloat16, 2⁻⁸ of it, and with that which latents are among the k.
  EXPECT_LT(difference(folder_ / "one", folder_ / "two"), 1e-4);
}

TEST_F(MpiCommand, GoesOnWhereASignalStoppedIt) {
  const std::string arguments = "train --activations " + store() +
                                " --arch topk --hidden-dim 256 --batch-size 128 --steps 400 -k 8 "
                                "--checkpoint-steps 20 --log-level WARNING --output ";
  const pid_t child = start(command(2, arguments + path("stopped")));
  for (int i = 0; i < 3000 && !fs::exists(folder_ / "stopped/checkpoint.safetensors"); ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  kill(child, SIGUSR1);  // mpirun hands it on
  const Result stopped = wait(child);
  ASSERT_EQ(stopped.exit_code, 130) << stopped.err;
  const Result resumed = together(2, arguments + path("stopped") + " --resume");
  ASSERT_EQ(resumed.exit_code, 0) << resumed.err;
  ASSERT_EQ(together(2, arguments + path("whole")).exit_code, 0);
  EXPECT_EQ(read_file(folder_ / "stopped/sae_weights.safetensors"),
            read_file(folder_ / "whole/sae_weights.safetensors"));
}

TEST_F(MpiCommand, AnErrorOnOneRankEndsAll) {
  const std::string arguments = " --arch topk --hidden-dim 64 --steps 10 --output " + path("out2");
  // Rank 1 alone is sent where nothing is.
  const std::string script = "sh -c 'exec " DRRIK_MPI_BINARY " train --activations " + store() +
                             "$([ \"$OMPI_COMM_WORLD_RANK\" = 1 ] && echo -n x)" + arguments + "'";
  const Result result = wait(start(DRRIK_MPIRUN " 2 " + script));
  EXPECT_EQ(result.exit_code, 4) << result.err;
  EXPECT_NE(result.err.find("drrik: rank 1: "), std::string::npos) << result.err;
  EXPECT_NE(result.err.find("does not exist"), std::string::npos) << result.err;
}

TEST_F(MpiCommand, SaysWhatIsNotDivided) {
  const Result data = together(2, "data --dataset " DRRIK_ASSETS_DIR "/demo/text.jsonl");
  EXPECT_EQ(data.exit_code, 2);
  EXPECT_NE(data.err.find("not divided"), std::string::npos) << data.err;
  const Result relu = together(2, "train --activations " + store() + " --output " + path("relu"));
  EXPECT_EQ(relu.exit_code, 2);
  EXPECT_NE(relu.err.find("--arch standard"), std::string::npos) << relu.err;
  const Result help = together(2, "train --help");
  EXPECT_EQ(help.exit_code, 0);
  EXPECT_EQ(help.out.find("Usage"), help.out.rfind("Usage"));
}

}  // namespace
}  // namespace drrik
