// EnvironmentSettings: where settings come from, and that credentials stay unseen.

#include "drrik/config/environment.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "drrik/base/error.h"
#include "drrik/base/log.h"
#include "drrik/config/config.h"

namespace drrik {
namespace {

namespace fs = std::filesystem;

// Made up; of the shape of the real ones.
const std::string kToken = "hf_abcDEF123456";
const std::string kKey = "0123456789abcdef0123456789abcdef01234567";

class EnvironmentTest : public ::testing::Test {
 protected:
  EnvironmentTest() {
    folder_ = fs::temp_directory_path() / ("drrik_env_" + std::to_string(::getpid()));
    fs::create_directories(folder_);
    set_log_sink(
        [this](LogLevel, std::string_view message) { log_ += std::string(message) + "\n"; });
  }
  ~EnvironmentTest() override {
    set_log_sink(nullptr);
    fs::remove_all(folder_);
  }
  fs::path write(const std::string& name, const std::string& text) const {
    fs::create_directories((folder_ / name).parent_path());
    std::ofstream(folder_ / name) << text;
    return folder_ / name;
  }
  EnvironmentSettings load(const Environment& environment, const std::string& dotenv = "") const {
    return EnvironmentSettings::load(environment, dotenv.empty() ? "" : write(".env", dotenv));
  }
  std::string error_of(const Environment& environment, const std::string& dotenv = "") const {
    try {
      load(environment, dotenv);
    } catch (const Error& error) {
      return error.what();
    }
    ADD_FAILURE() << "nothing was thrown";
    return "";
  }

  fs::path folder_;
  std::string log_;
};

TEST_F(EnvironmentTest, Defaults) {
  const EnvironmentSettings settings = load({});
  EXPECT_FALSE(settings.has_hf_token());
  EXPECT_FALSE(settings.use_wandb());
  EXPECT_EQ(settings.wandb_project, "drrik-experiments");
  EXPECT_EQ(settings.wandb_entity, "");
  EXPECT_EQ(settings.wandb_mode, "online");
  EXPECT_FALSE(EnvironmentSettings::load({}, folder_ / "missing").has_hf_token());
}

TEST_F(EnvironmentTest, EnvironmentWinsOverDotenvAndCaseDoesNotMatter) {
  const std::string dotenv =
      "huggingface_hub_token=from_file\nWandb_Project=file\nwandb_entity=team\nOTHER=1\n";
  EXPECT_EQ(load({}, dotenv).hf_token.reveal(), "from_file");
  const EnvironmentSettings settings =
      load({{"HuggingFace_Hub_Token", kToken}, {"UNRELATED", "x"}}, dotenv);
  EXPECT_EQ(settings.hf_token.reveal(), kToken);
  EXPECT_EQ(settings.wandb_project, "file");
  EXPECT_EQ(settings.wandb_entity, "team");
  // Empty in the environment: the one in the file is hidden.
  EXPECT_FALSE(load({{"HUGGINGFACE_HUB_TOKEN", ""}}, dotenv).has_hf_token());
  EXPECT_EQ(load({{"WANDB_PROJECT", ""}}, dotenv).wandb_project, "drrik-experiments");
}

TEST_F(EnvironmentTest, FindsTheTokenUnderItsNames) {
  EXPECT_EQ(load({{"HF_TOKEN", "b"}}).hf_token.reveal(), "b");
  EXPECT_EQ(load({{"HF_TOKEN", "b"}, {"HUGGINGFACE_HUB_TOKEN", "a"}}).hf_token.reveal(), "a");
  EXPECT_EQ(load({{"HUGGING_FACE_HUB_TOKEN", "c"}}).hf_token.reveal(), "c");
  EXPECT_EQ(load({{"HF_TOKEN", "  b \n"}}).hf_token.reveal(), "b");
}

// The environment wins over the file under whichever of the names the token stands.
TEST_F(EnvironmentTest, EnvironmentWinsUnderEveryNameOfTheToken) {
  const char* const names[] = {"HUGGINGFACE_HUB_TOKEN", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"};
  for (const char* in_file : names) {
    const std::string dotenv = std::string(in_file) + "=from_file\n";
    for (const char* in_environment : names) {
      EXPECT_EQ(load({{in_environment, kToken}}, dotenv).hf_token.reveal(), kToken)
          << in_file << " in the file, " << in_environment << " in the environment";
      // Empty there, it hides the one of the same name only.
      EXPECT_EQ(load({{in_environment, ""}}, dotenv).has_hf_token(),
                std::string(in_file) != in_environment);
    }
    // And over the token file.
    write("hub/token", "from_token_file");
    EXPECT_EQ(load({{"HF_HOME", (folder_ / "hub").string()}}, dotenv).hf_token.reveal(),
              "from_file");
  }
}

TEST_F(EnvironmentTest, FindsTheTokenFile) {
  write("hub/token", kToken + "\n");
  write("home/.cache/huggingface/token", "from_home");
  write("cache/huggingface/token", "from_cache");
  const std::string hub = (folder_ / "hub").string();
  const std::string home = (folder_ / "home").string();
  const std::string cache = (folder_ / "cache").string();
  EXPECT_EQ(load({{"HF_HOME", hub}, {"HOME", home}}).hf_token.reveal(), kToken);
  EXPECT_EQ(load({{"HOME", home}}).hf_token.reveal(), "from_home");
  EXPECT_EQ(load({{"HOME", home}, {"XDG_CACHE_HOME", cache}}).hf_token.reveal(), "from_cache");
  EXPECT_EQ(load({{"HF_TOKEN_PATH", hub + "/token"}, {"HOME", home}}).hf_token.reveal(), kToken);
  EXPECT_EQ(load({{"HF_TOKEN", "b"}, {"HF_HOME", hub}}).hf_token.reveal(), "b");
  EXPECT_FALSE(load({{"HF_HOME", (folder_ / "nowhere").string()}}).has_hf_token());
  // A folder of that name, or a file of something else, is no token and no failure.
  fs::create_directories(folder_ / "odd" / "token");
  EXPECT_FALSE(load({{"HF_HOME", (folder_ / "odd").string()}}).has_hf_token());
  write("bad/token", "first secret line\nsecond");
  EXPECT_FALSE(load({{"HF_HOME", (folder_ / "bad").string()}}).has_hf_token());
  EXPECT_NE(log_.find("is not used"), std::string::npos);
  EXPECT_EQ(log_.find("secret"), std::string::npos);
}

TEST_F(EnvironmentTest, WandbMode) {
  const auto use = [&](const std::string& mode) {
    return load({{"WANDB_API_KEY", kKey}, {"WANDB_MODE", mode}}).use_wandb();
  };
  EXPECT_TRUE(use(""));
  EXPECT_TRUE(use("online"));
  EXPECT_TRUE(use("Offline"));
  EXPECT_FALSE(use("disabled"));
  EXPECT_FALSE(load({{"WANDB_MODE", "online"}}).use_wandb());
  const std::string message = error_of({{"WANDB_MODE", "offlin"}});
  EXPECT_NE(message.find("did you mean 'offline'?"), std::string::npos) << message;
  EXPECT_EQ(error_of({{"WANDB_MODE", kKey}}).find(kKey), std::string::npos);
}

TEST_F(EnvironmentTest, CredentialsAreNeverShown) {
  std::ostringstream dump;
  const Environment environment = {
      {"HF_TOKEN", kToken}, {"WANDB_API_KEY", kKey}, {"DRIK_RANDOM_SEED", "1"}};
  const EnvironmentSettings settings = load(environment);
  EXPECT_EQ(settings.hf_token.reveal(), kToken);
  dump << settings.hf_token << settings.wandb_api_key << settings.describe()
       << str(settings.hf_token);
  log_info("token ", settings.hf_token);
  Config config = load_config("", environment);
  dump << to_yaml(config, true);
  // Broken in every way that ends in a message.
  dump << error_of({{"HF_TOKEN", kToken + "\nX-Header: 1"}});
  dump << error_of({{"WANDB_API_KEY", kKey + " " + kToken}});
  dump << error_of({}, "HF_TOKEN=\"" + kToken + "\n");
  load({}, kToken + "\nexport " + kToken + "\nHF_TOKEN='a' " + kToken + "\n");
  EXPECT_EQ(dump.str().find(kToken), std::string::npos) << dump.str();
  EXPECT_EQ(dump.str().find(kKey), std::string::npos) << dump.str();
  EXPECT_EQ(log_.find(kToken), std::string::npos) << log_;
  EXPECT_NE(dump.str().find("hf_token: ***"), std::string::npos) << dump.str();
  EXPECT_NE(log_.find("token ***"), std::string::npos) << log_;
  EXPECT_EQ(str(Secret()), "");
}

TEST_F(EnvironmentTest, SettingsAreShared) { EXPECT_EQ(&get_settings(), &get_settings()); }

TEST(Dotenv, Values) {
  const Environment got = parse_dotenv(
      "\xEF\xBB\xBF# comment\r\n"
      "A=1\r\n"
      "  export B = two words   # comment\n"
      "C='literal \\n # \"x\"'\n"
      "D=\"line\\nnext \\\"q\\\" \\$HOME \\\\ # no comment\"  # comment\n"
      "E=a#b\n"
      "F=\n"
      "G=#only a comment\n"
      "H=\"two\nlines\"\n"
      "I=$A ${A}\n"
      "exported=yes\n"
      "J==x=\n"
      "K=last");
  const Environment wanted = {{"A", "1"},
                              {"B", "two words"},
                              {"C", "literal \\n # \"x\""},
                              {"D", "line\nnext \"q\" $HOME \\ # no comment"},
                              {"E", "a#b"},
                              {"F", ""},
                              {"G", ""},
                              {"H", "two\nlines"},
                              {"I", "$A ${A}"},
                              {"exported", "yes"},
                              {"J", "=x="},
                              {"K", "last"}};
  EXPECT_EQ(got, wanted);
}

TEST(Dotenv, Malformed) {
  set_log_level(LogLevel::kOff);
  EXPECT_TRUE(parse_dotenv("novalue\n=x\n!!\nexport\nA B=1\n").empty());
  EXPECT_EQ(parse_dotenv("junk\nA=1\n").at("A"), "1");
  EXPECT_THROW(parse_dotenv("A=\"x"), Error);
  EXPECT_THROW(parse_dotenv("A='x\n"), Error);
  EXPECT_THROW(parse_dotenv(std::string_view("A=\0x", 4)), Error);
  EXPECT_THROW(parse_dotenv("A=\"\\"), Error);
  EXPECT_TRUE(parse_dotenv("").empty());
  set_log_level(LogLevel::kInfo);
}

TEST(Environment, IsThatOfTheProcess) {
  ::setenv("drrik_probe_variable", "a=b", 1);
  EXPECT_EQ(process_environment().at("drrik_probe_variable"), "a=b");
  ::unsetenv("drrik_probe_variable");
}

}  // namespace
}  // namespace drrik
