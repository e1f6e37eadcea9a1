#include "train/mpi_communicator.h"

#define OMPI_SKIP_MPICXX 1
#include <mpi.h>

#include <algorithm>
#include <cstdlib>
#include <numeric>
#include <vector>

#include "drrik/base/error.h"

namespace drrik {
namespace {

// MPI counts in int; also bounds what an implementation buffers.
constexpr std::size_t kPiece = std::size_t{1} << 26;
// Below this many elements a tree is quicker than a ring.
constexpr std::size_t kSmall = 4096;

void check(int code, const char* what) {
  if (code == MPI_SUCCESS) return;
  char text[MPI_MAX_ERROR_STRING];
  int length = 0;
  MPI_Error_string(code, text, &length);
  throw_io("MPI: ", what, ": ", std::string(text, static_cast<std::size_t>(length)));
}

}  // namespace

class MpiSession::Ranks final : public Communicator {
 public:
  Ranks() {
    check(MPI_Comm_rank(MPI_COMM_WORLD, &rank_), "rank");
    check(MPI_Comm_size(MPI_COMM_WORLD, &size_), "size");
  }

  int rank() const override { return rank_; }
  int size() const override { return size_; }
  void sum(std::span<float> v) override { reduce(v, MPI_FLOAT, MPI_SUM); }
  void sum(std::span<double> v) override { reduce(v, MPI_DOUBLE, MPI_SUM); }
  void sum(std::span<std::int64_t> v) override { reduce(v, MPI_INT64_T, MPI_SUM); }
  void minimum(std::span<float> v) override { reduce(v, MPI_FLOAT, MPI_MIN); }
  void maximum(std::span<std::int64_t> v) override { reduce(v, MPI_INT64_T, MPI_MAX); }

  void all_gather(std::span<const float> mine, std::span<const std::int64_t> counts,
                  std::span<float> all) override {
    gather(mine, counts, all, MPI_FLOAT);
  }
  void all_gather(std::span<const double> mine, std::span<const std::int64_t> counts,
                  std::span<double> all) override {
    gather(mine, counts, all, MPI_DOUBLE);
  }
  void all_gather(std::span<const std::int64_t> mine, std::span<const std::int64_t> counts,
                  std::span<std::int64_t> all) override {
    gather(mine, counts, all, MPI_INT64_T);
  }

  void broadcast(std::span<std::byte> bytes, int root) override {
    for (std::size_t from = 0; from < bytes.size(); from += kPiece) {
      const auto part = bytes.subspan(from, std::min(kPiece, bytes.size() - from));
      check(MPI_Bcast(part.data(), static_cast<int>(part.size()), MPI_BYTE, root, MPI_COMM_WORLD),
            "broadcast");
    }
    sent_ += static_cast<double>(bytes.size()) * share();
  }

  void send(std::span<const std::byte> bytes, int to) override {
    for (std::size_t from = 0; from < bytes.size(); from += kPiece) {
      const auto part = bytes.subspan(from, std::min(kPiece, bytes.size() - from));
      check(MPI_Send(part.data(), static_cast<int>(part.size()), MPI_BYTE, to, 0, MPI_COMM_WORLD),
            "send");
    }
    sent_ += static_cast<double>(bytes.size());
  }

  void receive(std::span<std::byte> bytes, int from) override {
    for (std::size_t at = 0; at < bytes.size(); at += kPiece) {
      const auto part = bytes.subspan(at, std::min(kPiece, bytes.size() - at));
      check(MPI_Recv(part.data(), static_cast<int>(part.size()), MPI_BYTE, from, 0, MPI_COMM_WORLD,
                     MPI_STATUS_IGNORE),
            "receive");
    }
  }

  void barrier() override { check(MPI_Barrier(MPI_COMM_WORLD), "barrier"); }
  double bytes_sent() const override { return sent_; }

 private:
  // Of a whole, what does not stay with a rank.
  double share() const { return static_cast<double>(size_ - 1) / static_cast<double>(size_); }

  // MPI_Allreduce may round differently from rank to rank; here every element is summed by one
  // rank, which gives it to all.
  template <typename T>
  void reduce(std::span<T> values, MPI_Datatype type, MPI_Op op) {
    if (size_ == 1) return;
    for (std::size_t from = 0; from < values.size(); from += kPiece) {
      const auto part = values.subspan(from, std::min(kPiece, values.size() - from));
      const int n = static_cast<int>(part.size());
      if (part.size() < kSmall) {
        const void* give = rank_ == 0 ? MPI_IN_PLACE : static_cast<const void*>(part.data());
        check(MPI_Reduce(give, part.data(), n, type, op, 0, MPI_COMM_WORLD), "reduce");
        check(MPI_Bcast(part.data(), n, type, 0, MPI_COMM_WORLD), "broadcast");
        continue;
      }
      std::vector<int> counts(static_cast<std::size_t>(size_), n / size_);
      for (int r = 0; r < n % size_; ++r) ++counts[static_cast<std::size_t>(r)];
      std::vector<int> starts(counts.size(), 0);
      std::partial_sum(counts.begin(), counts.end() - 1, starts.begin() + 1);
      const auto me = static_cast<std::size_t>(rank_);
      std::vector<T> mine(static_cast<std::size_t>(counts[me]));
      check(MPI_Reduce_scatter(part.data(), mine.data(), counts.data(), type, op, MPI_COMM_WORLD),
            "reduce");
      check(MPI_Allgatherv(mine.data(), counts[me], type, part.data(), counts.data(), starts.data(),
                           type, MPI_COMM_WORLD),
            "gather");
    }
    sent_ += 2.0 * static_cast<double>(values.size_bytes()) * share();
  }

  template <typename T>
  void gather(std::span<const T> mine, std::span<const std::int64_t> counts, std::span<T> all,
              MPI_Datatype type) {
    std::int64_t sum = 0;
    for (const std::int64_t n : counts) sum += n;
    if (counts.size() != static_cast<std::size_t>(size_) ||
        counts[static_cast<std::size_t>(rank_)] != static_cast<std::int64_t>(mine.size()) ||
        sum != static_cast<std::int64_t>(all.size())) {
      throw_data("gather: ", mine.size(), " of ", all.size(), " values by ", counts.size(),
                 " counts that add up to ", sum, ", on rank ", rank_, " of ", size_);
    }
    // One rank's part after another: a broadcast takes more than MPI's int counts.
    std::size_t from = 0;
    for (int r = 0; r < size_; ++r) {
      const auto n = static_cast<std::size_t>(counts[static_cast<std::size_t>(r)]);
      const std::span<T> part = all.subspan(from, n);
      if (r == rank_) std::ranges::copy(mine, part.begin());
      for (std::size_t i = 0; i < n; i += kPiece) {
        check(MPI_Bcast(part.data() + i, static_cast<int>(std::min(kPiece, n - i)), type, r,
                        MPI_COMM_WORLD),
              "gather");
      }
      from += n;
    }
    sent_ += static_cast<double>(all.size_bytes()) * share();
  }

  int rank_ = 0;
  int size_ = 1;
  double sent_ = 0.0;
};

MpiSession::MpiSession() : ranks_(nullptr) {
  int provided = 0;
  check(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &provided), "start");
  check(MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN), "start");
  ranks_ = new Ranks();
}

MpiSession::~MpiSession() {
  delete ranks_;
  MPI_Finalize();
}

Communicator& MpiSession::communicator() { return *ranks_; }

void MpiSession::abort(int code) {
  MPI_Abort(MPI_COMM_WORLD, code);
  std::_Exit(code);
}

}  // namespace drrik
