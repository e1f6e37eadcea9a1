#include "hub/http.h"

#include <curl/curl.h>

#include <algorithm>
#include <cstdlib>
#include <exception>

#include "drrik/base/error.h"
#include "drrik/base/interrupt.h"
#include "drrik/base/system.h"
#include "hub/url.h"

namespace drrik::hub {
namespace {

constexpr std::size_t kMaxHeaders = 1000;

const char* first_environment(std::initializer_list<const char*> names) {
  for (const char* name : names) {
    const char* value = std::getenv(name);
    if (value != nullptr && *value != '\0') return value;
  }
  return nullptr;
}

bool worth_another_try(CURLcode code) {
  switch (code) {
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY:
    case CURLE_COULDNT_CONNECT:
    case CURLE_OPERATION_TIMEDOUT:
    case CURLE_PARTIAL_FILE:
    case CURLE_RECV_ERROR:
    case CURLE_SEND_ERROR:
    case CURLE_GOT_NOTHING:
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_HTTP2:
    case CURLE_HTTP2_STREAM:
    case CURLE_WEIRD_SERVER_REPLY:
      return true;
    default:
      return false;
  }
}

struct Exchange {
  HttpResponse* response = nullptr;
  const BodySink* sink = nullptr;
  const std::function<bool()>* stop = nullptr;
  std::exception_ptr thrown;
  bool stopped_by_sink = false;
  bool stopped = false;
  bool stalled = false;
  double stall_timeout = 0;
  double last_byte = 0;  // when it came
};

std::size_t on_header(char* data, std::size_t size, std::size_t count, void* user) {
  Exchange& exchange = *static_cast<Exchange*>(user);
  exchange.last_byte = monotonic_seconds();
  HttpResponse& response = *exchange.response;
  const std::string_view line(data, size * count);
  if (line.starts_with("HTTP/")) {  // of the answer proper; those before (100 Continue) are dropped
    response.headers.clear();
    const std::size_t space = line.find(' ');
    response.status = space == line.npos ? 0 : std::atoi(std::string(line.substr(space)).c_str());
    return line.size();
  }
  const std::size_t colon = line.find(':');
  if (colon == std::string_view::npos || response.headers.size() >= kMaxHeaders) return line.size();
  std::string name(trim(line.substr(0, colon)));
  for (char& c : name) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  response.headers.emplace_back(std::move(name), trim(line.substr(colon + 1)));
  return line.size();
}

std::size_t on_body(char* data, std::size_t size, std::size_t count, void* user) {
  Exchange& exchange = *static_cast<Exchange*>(user);
  const std::span<const char> bytes(data, size * count);
  exchange.last_byte = monotonic_seconds();
  try {
    if (*exchange.sink) {
      if (!(*exchange.sink)(*exchange.response, bytes)) {
        exchange.stopped_by_sink = true;
        return 0;
      }
      return bytes.size();
    }
    if (exchange.response->body.size() + bytes.size() > HttpConnection::kMaxBody) {
      throw_io("the answer has more than ", HttpConnection::kMaxBody, " bytes");
    }
    exchange.response->body.append(bytes.data(), bytes.size());
    return bytes.size();
  } catch (...) {
    exchange.thrown = std::current_exception();
    return 0;
  }
}

int on_progress(void* user, curl_off_t, curl_off_t, curl_off_t, curl_off_t) {
  Exchange& exchange = *static_cast<Exchange*>(user);
  exchange.stopped = interrupted() || (*exchange.stop && (*exchange.stop)());
  // libcurl's own low speed limit is an average, which takes seconds more to fall.
  exchange.stalled = monotonic_seconds() - exchange.last_byte > exchange.stall_timeout;
  return exchange.stopped || exchange.stalled ? 1 : 0;
}

struct HeaderList {
  curl_slist* list = nullptr;
  HeaderList() = default;
  HeaderList(const HeaderList&) = delete;
  HeaderList& operator=(const HeaderList&) = delete;
  ~HeaderList() { curl_slist_free_all(list); }
  void add(const std::string& line) {
    curl_slist* longer = curl_slist_append(list, line.c_str());
    if (longer == nullptr) throw std::bad_alloc();
    list = longer;
  }
};

}  // namespace

std::optional<std::string> HttpResponse::find(std::string_view name) const {
  const auto found =
      std::ranges::find_if(headers, [&](const auto& header) { return header.first == name; });
  if (found == headers.end()) return std::nullopt;
  return found->second;
}

struct HttpConnection::Impl {
  CURL* curl = nullptr;
  char error[CURL_ERROR_SIZE] = {};
};

HttpConnection::HttpConnection() : impl_(std::make_unique<Impl>()) {
  static const CURLcode ready = curl_global_init(CURL_GLOBAL_DEFAULT);
  if (ready == CURLE_OK) impl_->curl = curl_easy_init();
  if (impl_->curl == nullptr) throw_io("cannot start libcurl");
}

HttpConnection::~HttpConnection() { curl_easy_cleanup(impl_->curl); }

std::optional<HttpFailure> HttpConnection::perform(const HttpRequest& request,
                                                   HttpResponse& response, const BodySink& sink,
                                                   const std::function<bool()>& stop) {
  CURL* curl = impl_->curl;
  curl_easy_reset(curl);  // keeps the open connections
  response = {};
  Exchange exchange;
  exchange.response = &response;
  exchange.sink = &sink;
  exchange.stop = &stop;
  exchange.stall_timeout = std::max(request.stall_timeout, request.connect_timeout);
  exchange.last_byte = monotonic_seconds();
  HeaderList headers;
  for (const std::string& line : request.headers) headers.add(line);
  const auto milliseconds = [](double seconds) { return static_cast<long>(seconds * 1000); };

  impl_->error[0] = '\0';
  curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, impl_->error);
  curl_easy_setopt(curl, CURLOPT_URL, request.url.c_str());
  curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
  curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 0L);
  curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(curl, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
  curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers.list);
  curl_easy_setopt(curl, CURLOPT_NOBODY, request.head ? 1L : 0L);
  // Asks for the bytes as they are; undoes a compression that is there all the same.
  curl_easy_setopt(curl, CURLOPT_ACCEPT_ENCODING, "identity");
  curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, milliseconds(request.connect_timeout));
  curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, on_header);
  curl_easy_setopt(curl, CURLOPT_HEADERDATA, &exchange);
  curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_body);
  curl_easy_setopt(curl, CURLOPT_WRITEDATA, &exchange);
  curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
  curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, on_progress);
  curl_easy_setopt(curl, CURLOPT_XFERINFODATA, &exchange);
  curl_easy_setopt(curl, CURLOPT_BUFFERSIZE, 256L * 1024L);
  // libcurl reads http_proxy, HTTPS_PROXY, ALL_PROXY and NO_PROXY by itself. HTTP_PROXY, which it
  // leaves alone for the sake of CGI programs, is what Python users set.
  if (origin_of(request.url).starts_with("http:") && std::getenv("REQUEST_METHOD") == nullptr &&
      first_environment({"http_proxy"}) == nullptr) {
    if (const char* proxy = first_environment({"HTTP_PROXY"})) {
      curl_easy_setopt(curl, CURLOPT_PROXY, proxy);
      if (const char* direct = first_environment({"no_proxy", "NO_PROXY"})) {
        curl_easy_setopt(curl, CURLOPT_NOPROXY, direct);
      }
    }
  }
  if (const char* bundle =
          first_environment({"REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"})) {
    curl_easy_setopt(curl, CURLOPT_CAINFO, bundle);
  }

  const CURLcode code = curl_easy_perform(curl);
  curl_easy_setopt(curl, CURLOPT_HTTPHEADER, nullptr);
  if (exchange.thrown) std::rethrow_exception(exchange.thrown);
  if (exchange.stopped)
    throw Error(ErrorKind::kInterrupted,
                "interrupted while downloading; the same command goes on from there");
  if (code == CURLE_OK || exchange.stopped_by_sink) return std::nullopt;
  std::string what = impl_->error[0] != '\0' ? impl_->error : curl_easy_strerror(code);
  if (code == CURLE_OPERATION_TIMEDOUT || exchange.stalled) {
    what = str("no answer within ", request.connect_timeout, " seconds, or no byte for ",
               request.stall_timeout, " seconds");
  }
  const bool unreachable = code == CURLE_COULDNT_RESOLVE_HOST ||
                           code == CURLE_COULDNT_RESOLVE_PROXY || code == CURLE_COULDNT_CONNECT;
  return HttpFailure{std::string(trim(what)), exchange.stalled || worth_another_try(code),
                     unreachable};
}

}  // namespace drrik::hub
