// What people and scripts meet: the verbs, their output, and clear errors.

#include <gmock/gmock.h>

#include "end_to_end/program.hpp"
#include "support/temp_folder.hpp"

namespace duet::testing {
using duet::test::TempFolder;
namespace end_to_end_program {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using ::testing::StartsWith;

const std::string kScene = "'" + example("scenes/bundled/00001.png") + "'";
const std::string kMethodA = "'" + example("models/scenes-a") + "'", kMethodB = "'" + example("models/scenes-b") + "'";

TEST(Run, BothMethodsDescribeAPicture) {
  for (const std::string& model : {kMethodA, kMethodB}) {
    const Outcome outcome = duet_program("run " + model + " --image " + kScene);
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    EXPECT_THAT(outcome.out, StartsWith("a "));
    EXPECT_THAT(outcome.out, HasSubstr("green triangle"));
    EXPECT_EQ(std::count(outcome.out.begin(), outcome.out.end(), '\n'), 1) << "a pipe gets the text and nothing else";
    EXPECT_EQ(outcome.err, "") << "progress belongs on terminals alone";
  }
}

TEST(Run, AnswersAQuestion) {
  const Outcome outcome = duet_program("run " + kMethodB + " --image " + kScene + " --prompt 'What colour is the triangle?' --json");
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_EQ(std::count(outcome.out.begin(), outcome.out.end(), '\n'), 1) << "one object, on one line";
  EXPECT_EQ(outcome.err, "");
  const auto result = outcome.json();
  EXPECT_EQ(result["text"], "green");
  EXPECT_EQ(result["finish_reason"], "eos");
  EXPECT_EQ(result["counts"]["image_tokens"], 65);
  EXPECT_EQ(result["counts"]["new_tokens"], result["ids"].size());
  EXPECT_GT(result["counts"]["prompt_tokens"].get<int>(), 1);
  for (const char* part : {"load", "image", "prefill", "decode"}) EXPECT_GT(result["milliseconds"].at(part).get<double>(), 0) << part;
}

TEST(Run, RealTextGoesOnAsTheReferenceDoes) {
  const Outcome outcome = duet_program("run '" + golden("stories260K") + "' --prompt 'Once upon a time' --max-new-tokens 60 --json");
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_THAT(outcome.json()["text"].get<std::string>(), StartsWith(", there was a little girl named Lily. She loved to play outside in the park."));
}

TEST(Run, TheSameSeedGivesTheSameTextOnAnyThreads) {
  const auto text = [](const std::string& more) {
    return duet_program("run '" + golden("stories260K") + "' --prompt 'Once' --max-new-tokens 40 --temperature 1 --top-k 40 --top-p 0.95 " + more).out;
  };
  EXPECT_EQ(text("--seed 3 --threads 1"), text("--seed 3 --threads 2"));
  EXPECT_NE(text("--seed 3"), text("--seed 4"));
}

TEST(Run, StopsBeforeAStopText) {
  const Outcome outcome = duet_program("run '" + golden("stories260K") + "' --prompt 'Once upon a time' --max-new-tokens 60 --stop 'named' --json");
  EXPECT_EQ(outcome.json()["text"], ", there was a little girl ");
  EXPECT_EQ(outcome.json()["finish_reason"], "stop");
}

TEST(Run, AFullContextIsAnErrorWithTheNumbers) {
  const Outcome outcome = duet_program("run '" + golden("stories260K") + "' --prompt 'Once' --max-new-tokens 4000");
  EXPECT_TRUE(outcome.is_clear_error()) << outcome.err;
  EXPECT_THAT(outcome.err, HasSubstr("4000"));
  EXPECT_THAT(outcome.err, HasSubstr("512"));
}

TEST(Run, PlaceholdersMustFitTheImages) {
  const Outcome outcome = duet_program("run " + kMethodA + " --image " + kScene + " --prompt-ids 1,2,3");
  EXPECT_EQ(outcome.code, 1);
  EXPECT_THAT(outcome.err, HasSubstr("0 image placeholders"));
  EXPECT_THAT(outcome.err, HasSubstr("65"));
}

TEST(Run, IdsNeedNoTokenizer) {
  const TempFolder folder;
  for (const char* file : {"config.json", "model.safetensors"}) fs::copy_file(fs::path(golden("llama-0")) / file, folder.path() / file);
  const std::string command = "run '" + folder.path().string() + "' --prompt-ids 1,2,3 --max-new-tokens 4";
  const Outcome bare = duet_program(command + " --json");
  ASSERT_EQ(bare.code, 0) << bare.err;
  EXPECT_EQ(bare.json()["ids"].size(), 4U);
  EXPECT_EQ(bare.json()["text"], "");
  folder.write("tokenizer.json", "{");
  EXPECT_THAT(duet_program(command + " --dry-run").out, StartsWith("1 2 3 \n3 tokens")) << "nothing becomes text";
  const Outcome broken = duet_program(command + " --json");
  EXPECT_TRUE(broken.is_clear_error()) << broken.err;
  EXPECT_THAT(broken.err, HasSubstr("tokenizer.json: got no JSON (parse error at line 1, column 2"));
}

TEST(Usage, WrongOptionsAreExitCodeTwo) {
  EXPECT_EQ(duet_program("").code, 2);
  EXPECT_EQ(duet_program("run").code, 2);
  EXPECT_EQ(duet_program("run " + kMethodA + " --max-new-tokens minus").code, 2);
  EXPECT_EQ(duet_program("run " + kMethodA + " --prompt x --prompt-ids 1").code, 2);
  EXPECT_EQ(duet_program("run " + kMethodA + " --threads -1").code, 2);
  EXPECT_EQ(duet_program("chat " + kMethodA + " --context 0").code, 2);
  EXPECT_EQ(duet_program("bench --shape unknown").code, 2);
  EXPECT_EQ(duet_program("run " + kMethodA + " --prompt-ids ''").code, 2);
  EXPECT_EQ(duet_program("run " + kMethodA + " --prompt x --stop ''").code, 2);
  EXPECT_EQ(duet_program("bench").code, 2);
  EXPECT_EQ(duet_program("bench " + kMethodA + " --shape gpt2").code, 2);
  EXPECT_EQ(duet_program("attend " + kMethodA + " --image x.png").code, 2) << "nowhere to write to";
  for (const char* verb : {"run", "chat", "attend", "check", "bench"}) {
    const Outcome kv = duet_program(std::string(verb) + " " + kMethodA + " --kv q9");
    EXPECT_EQ(kv.code, 2);
    EXPECT_THAT(kv.err, AllOf(HasSubstr("q9"), HasSubstr("f32,bf16,f16,q8"))) << "the known ones are listed";
  }
  const Outcome verb = duet_program("frobnicate");
  EXPECT_EQ(verb.code, 2);
  EXPECT_THAT(verb.err, HasSubstr("frobnicate"));
}

TEST(Usage, EveryVerbHelps) {
  const Outcome all = duet_program("--help");
  EXPECT_EQ(all.code, 0);
  for (const std::string verb : {"run", "chat", "forward", "preprocess", "tokenize", "template", "inspect", "attend", "check", "bench"}) {
    EXPECT_THAT(all.out, HasSubstr("  " + verb + " "));
    const Outcome outcome = duet_program(verb + " --help");
    EXPECT_EQ(outcome.code, 0) << verb;
    EXPECT_THAT(outcome.out, ::testing::AllOf(HasSubstr(verb), HasSubstr("MODEL"))) << verb;
    EXPECT_EQ(outcome.err, "") << verb;
  }
}

TEST(Template, RendersARequestALine) {
  const TempFolder folder;  // no weights, no config.json
  folder.write("chat_template.jinja", "{{ bos_token }}{% for m in messages %}[{{ m.role }}]{{ m.content }}{% if m.role == 'system' %}{{ raise_exception('no system') }}{% endif %}{% endfor %}"
               "{% if add_generation_prompt %}[assistant]{% endif %}{{ strftime_now(' %d %b %Y') }}");
  folder.write("tokenizer_config.json", R"({"bos_token": "<s>"})");
  const std::string call = "template '" + folder.path().string() + "'";
  const Outcome outcome = duet_program(call + " --date 2024-07-26", R"({"messages": [{"role": "user", "content": "é\n"}], "add_generation_prompt": true}
{"messages": []})");
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_EQ(outcome.out, "{\"prompt\":\"<s>[user]é\\n[assistant] 26 Jul 2024\"}\n{\"prompt\":\"<s> 26 Jul 2024\"}\n");
  const Outcome raised = duet_program(call, R"({"messages": [{"role": "system", "content": ""}]})");
  EXPECT_TRUE(raised.is_clear_error()) << raised.err;
  EXPECT_THAT(raised.err, ::testing::AllOf(HasSubstr("no system"), HasSubstr("chat_template.jinja, line 1")));
  EXPECT_TRUE(duet_program(call + " --date yesterday").is_clear_error());
  EXPECT_TRUE(duet_program("template '" + golden("stories260K") + "'").is_clear_error()) << "it has no template";
}

/// stories260K as a chat model.
void make_chat_model(const TempFolder& folder, const std::string& chat_template) {
  for (const auto& entry : fs::directory_iterator(golden("stories260K"))) {
    fs::copy(entry.path(), folder.path() / entry.path().filename());
    fs::permissions(folder.path() / entry.path().filename(), fs::perms::owner_write, fs::perm_options::add);
  }
  folder.write("chat_template.jinja", chat_template);
}

TEST(Run, UsesTheChatTemplateUnlessRaw) {
  const TempFolder folder;
  make_chat_model(folder, "<s>Once upon {{ messages[0].content }}");
  const std::string model = "run '" + folder.path().string() + "' --max-new-tokens 12 --json ", plain = "run '" + golden("stories260K") + "' --max-new-tokens 12 --json ";
  const auto told = duet_program(model + "--prompt 'a time'").json(), exact = duet_program(plain + "--prompt 'Once upon a time'").json();
  EXPECT_EQ(told["ids"], exact["ids"]);
  EXPECT_EQ(told["counts"]["prompt_tokens"], exact["counts"]["prompt_tokens"]) << "one token begins the text, the template's";
  EXPECT_EQ(duet_program(model + "--raw --prompt 'Once upon a time'").json()["ids"], exact["ids"]);
  EXPECT_EQ(duet_program(model + "--raw").code, 2) << "the exact text of what?";
}

TEST(Chat, WordsTheWholeConversation) {
  const TempFolder folder;
  make_chat_model(folder, "<s>{% for m in messages %}{{ m.content }}{% endfor %}");
  const std::string chat = "chat '" + folder.path().string() + "' --max-new-tokens 6";
  const Outcome both = duet_program(chat, "Once upon a time\n One day\n");
  ASSERT_EQ(both.code, 0) << both.err;
  const std::string first = both.out.substr(0, both.out.find('\n'));
  const auto at_once = duet_program("run '" + golden("stories260K") + "' --max-new-tokens 6 --json --prompt 'Once upon a time" + first + " One day'").json();
  EXPECT_EQ(both.out, first + "\n" + at_once["text"].get<std::string>() + "\n");
}

TEST(BadInput, GivesOneClearLine) {
  const TempFolder folder;
  const std::string here = folder.path().string();
  const auto clear = [](const std::string& arguments, const char* hint) {
    const Outcome outcome = duet_program(arguments);
    EXPECT_TRUE(outcome.is_clear_error()) << arguments << ": " << outcome.code << ' ' << outcome.err;
    EXPECT_THAT(outcome.err, HasSubstr(hint)) << arguments;
  };
  clear("run /no/such/folder --prompt x", "/no/such/folder");
  clear("inspect '" + here + "'", "config.json");
  clear("run " + kMethodB + " --image /no/such.png", "/no/such.png");
  clear("run " + kMethodB + " --image '" + golden("llava-0/config.json") + "'", "PNG, JPEG or BMP");
  clear("run '" + golden("vit-0") + "' --prompt x", "writes no text");
  clear("run " + kMethodB, "neither text nor an image");
  clear("run '" + golden("gpt2-0") + "' --image " + kScene + " --prompt-ids 1,2", "reads text alone");
  clear("forward '" + golden("vit-0") + "' '" + golden("vit-0/config.json") + "' '" + here + "/x'", "a JSON file");
  clear("run '" + golden("gpt2-0") + "' --prompt hello", "tokenizer.json");
  clear("run '" + golden("llama-0") + "' --prompt-ids 1,2,99999", "99999");
  clear("preprocess '" + golden("llama-0") + "' " + kScene + " -o '" + here + "/x.safetensors'", "a model that reads text alone");

  const fs::path model = folder.path() / "model";
  fs::copy(golden("llama-0"), model);
  for (const auto& entry : fs::directory_iterator(model)) fs::permissions(entry.path(), fs::perms::owner_write, fs::perm_options::add);
  const auto with = [&](const char* file, const std::string& content, const char* hint) {
    const std::string before = read_file(model / file);
    std::ofstream(model / file, std::ios::binary) << content;
    clear("inspect '" + model.string() + "'", hint);
    std::ofstream(model / file, std::ios::binary) << before;
  };
  const std::string config = read_file(model / "config.json"), weights = read_file(model / "model.safetensors");
  with("config.json", config.substr(0, config.size() / 2), "config.json");
  with("config.json", "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "git lfs pull");
  with("config.json", "{\"model_type\": \"mystery\"}", "mystery");
  with("config.json", "{}", "transformers checkpoint");
  with("config.json", "{\"model_type\": \"llama\", \"hidden_size\": -4}", "hidden_size");
  for (const auto& [key, value] : std::initializer_list<std::pair<const char*, const char*>>{  // each overflows or overruns something
           {"hidden_size", "4611686018427387904"}, {"num_attention_heads", "4611686018427387904"}, {"head_dim", "9223372036854775807"},
           {"vocab_size", "1099511627776"}, {"partial_rotary_factor", "2.0"}, {"partial_rotary_factor", "-1"}, {"rope_theta", "0"}}) {
    nlohmann::json changed = nlohmann::json::parse(config);
    changed[key] = nlohmann::json::parse(value);
    for (const char* nested : {"rope_parameters", "rope_scaling"}) changed.erase(nested);
    with("config.json", changed.dump(), key);
  }
  with("model.safetensors", weights.substr(0, weights.size() / 2), "download");
  with("model.safetensors", "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "git lfs pull");
  with("model.safetensors", std::string(100, 'x'), "model.safetensors");
  fs::rename(model / "model.safetensors", model / "pytorch_model.bin");
  clear("inspect '" + model.string() + "'", "python3 -c");
}

TEST(Output, ThatDoesNotArriveIsAnError) {
  const std::string command = std::string("'") + DUET_PROGRAM + "' inspect '" + golden("vit-0") + "' >/dev/full 2>/dev/null";
  const int status = std::system(command.c_str());
  EXPECT_EQ(WEXITSTATUS(status), 1);
}

TEST(Inspect, TellsFamilyFusionAndUnusedTensors) {
  const auto a = duet_program("inspect '" + golden("llava-0") + "' --json").json();
  EXPECT_EQ(a["family"], "LLaVA");
  EXPECT_EQ(a["fusion"], "embedding");
  EXPECT_EQ(a["tokens_per_image"], 16);
  EXPECT_THAT(a["unused_tensors"].dump(), HasSubstr("post_layernorm"));
  EXPECT_EQ(duet_program("inspect '" + golden("vision-encoder-decoder-0") + "' --json").json()["fusion"], "cross-attention");
}

TEST(Tokenize, WritesIdsAndText) {
  const Outcome outcome = duet_program("tokenize '" + golden("stories260K") + "'", "\"Once upon\"\n\"\\u00e9\"\n");
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_EQ(std::count(outcome.out.begin(), outcome.out.end(), '\n'), 2);
  EXPECT_THAT(outcome.out, HasSubstr("\"ids\":[1,"));
  EXPECT_EQ(duet_program("tokenize '" + golden("stories260K") + "'", "not json\n").code, 1);
}

constexpr const char* kStory =
    "Once upon a time, there was a little girl named Lily. She had a red ball that she loved very much. Every day, she took the "
    "ball to the park and played with her friend Tom. One day, the ball rolled into the pond. Lily was sad and started to cry. "
    "Tom said, \"Do not cry, Lily. I will help you.\" He found a long stick and pulled the ball out of the water. Lily was so "
    "happy. She gave Tom a big hug and said, \"Thank you, Tom. You are a good friend.\" They played with the ball until the sun "
    "went down, and then they went home for dinner.";

TEST(Quantize, WritesAFolderThatIsTheModelQuantizedWhileLoading) {
  const TempFolder folder;
  for (const char* name : {"gpt2-0", "llava-0", "vision-encoder-decoder-0", "llama-0"}) {
    for (const char* weights : {"q8", "q4"}) {
      const std::string out = (folder.path() / (std::string(name) + weights)).string();
      const Outcome made = duet_program("quantize '" + golden(name) + "' '" + out + "' --weights " + weights);
      ASSERT_EQ(made.code, 0) << made.err;
      const std::string question = " --prompt-ids 5,6,7,8 --max-new-tokens 12 --json --threads 1";
      const Outcome stored = duet_program("run '" + out + "'" + question);
      const Outcome loaded = duet_program("run '" + golden(name) + "'" + question + " --weights " + weights);
      ASSERT_EQ(stored.code, 0) << stored.err;
      EXPECT_EQ(stored.json()["ids"], loaded.json()["ids"]) << name << ' ' << weights;
      EXPECT_THAT(duet_program("inspect '" + out + "'").out, HasSubstr("Q8_0"));
    }
  }
  EXPECT_FALSE(std::filesystem::exists(folder.path() / "gpt2-0q8" / "golden.safetensors")) << "weights of someone else's";
  EXPECT_TRUE(std::filesystem::exists(folder.path() / "llava-0q8" / "preprocessor_config.json"));
  const auto size = [&](const char* name) { return std::filesystem::file_size(folder.path() / name / "model.safetensors"); };
  EXPECT_LT(size("llama-0q4"), size("llama-0q8"));
}

TEST(Quantize, AnErrorLeavesNothingBehind) {
  const TempFolder folder;
  folder.write("taken/precious.txt", "mine");
  const Outcome taken = duet_program("quantize '" + golden("gpt2-0") + "' '" + (folder.path() / "taken").string() + "' --weights q8");
  EXPECT_TRUE(taken.is_clear_error()) << taken.err;
  EXPECT_EQ(TempFolder::read(folder.path() / "taken/precious.txt"), "mine");
  EXPECT_TRUE(duet_program("quantize '" + folder.path().string() + "/none' '" + (folder.path() / "out").string() + "' --weights q8").is_clear_error());
  std::filesystem::create_directory(folder.path() / "broken");
  std::filesystem::copy_file(golden("gpt2-0") + "/config.json", folder.path() / "broken/config.json");
  folder.write("broken/model.safetensors", "\x02");
  EXPECT_TRUE(duet_program("quantize '" + (folder.path() / "broken").string() + "' '" + (folder.path() / "out").string() + "' --weights q8").is_clear_error());
  EXPECT_EQ(duet_program("quantize '" + golden("gpt2-0") + "' '" + (folder.path() / "out").string() + "' --weights q5").code, 2);
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder.path()), {}), 2) << "no folder half made";
}

TEST(Perplexity, EightBitsCostNothingAndFourLittle) {
  const TempFolder folder;
  const std::string text = "perplexity '" + golden("stories260K") + "' '" + folder.write("story.txt", kStory).string() + "' --json";
  const auto plain = duet_program(text).json();
  EXPECT_GT(plain["tokens"], 150);
  const double floats = plain["perplexity"];
  EXPECT_GT(floats, 2.0);
  EXPECT_LT(floats, 6.0) << "it was trained on such stories";
  const double q8 = duet_program(text + " --weights q8").json()["perplexity"], q4 = duet_program(text + " --weights q4").json()["perplexity"];
  EXPECT_NEAR(q8 / floats, 1.0, 0.005);
  EXPECT_NEAR(q4 / floats, 1.0, 0.08);
  // Read in windows, each word knows less of what was before.
  EXPECT_GT(duet_program(text + " --context 8").json()["perplexity"], floats);
}

TEST(Perplexity, OfWhatIsSaidOfPictures) {
  const TempFolder folder;
  std::filesystem::copy_file(example("scenes/bundled/00000.png"), folder.path() / "a.png");
  for (const char* method : {"a", "b"}) {
    const std::string command = "perplexity '" + example("models/scenes-") + method + "' '" + folder.path().string() + "/";
    folder.write("right.jsonl", R"({"file":"a.png","captions":["a small green triangle left of a large green star"]})" "\n\n");
    folder.write("wrong.jsonl", R"({"file":"a.png","captions":["a large blue circle left of a small red ring"]})");
    const double right = duet_program(command + "right.jsonl' --json").json()["perplexity"];
    EXPECT_LT(2.0 * right, duet_program(command + "wrong.jsonl' --json").json()["perplexity"].get<double>()) << method;
    folder.write("none.jsonl", R"({"file":"a.png"})");
    const Outcome none = duet_program(command + "none.jsonl'");
    EXPECT_TRUE(none.is_clear_error()) << none.err;
    EXPECT_THAT(none.err, HasSubstr("line 1"));
  }
}

TEST(Bench, StandsBesideAnEarlierRun) {
  const TempFolder folder;
  const std::string model = "bench '" + golden("gpt2-0") + "' --prefill 8 --decode 2 --threads 1", file = (folder.path() / "run.json").string();
  const Outcome first = duet_program(model + " --json");
  ASSERT_EQ(first.code, 0) << first.err;
  auto earlier = first.json();
  EXPECT_GT(earlier["first_token"]["ms"].get<double>(), earlier["load_ms"].get<double>());
  EXPECT_FALSE(earlier.contains("tokenizer_ms")) << "the folder has none";
  earlier["decode"]["tokens_per_s"] = 0.5;
  earlier["threads"] = 7;
  folder.write("run.json", earlier.dump());
  const Outcome second = duet_program(model + " --compare '" + file + "'");
  ASSERT_EQ(second.code, 0) << second.err;
  EXPECT_THAT(second.out, HasSubstr("not the same threads: 7 before, 1 now"));
  EXPECT_THAT(second.out, ::testing::ContainsRegex("decode tokens/s +0.5 +[0-9]"));
  EXPECT_THAT(second.out, ::testing::ContainsRegex("first token ms +[0-9.]+ +[0-9]"));
  EXPECT_EQ(second.out.find("image ms"), std::string::npos) << "measured in neither run";
  const Outcome with_text = duet_program("bench " + kMethodA + " --prefill 8 --decode 2");
  EXPECT_THAT(with_text.out, ::testing::ContainsRegex("load +model [0-9.]+ ms, tokenizer [0-9.]+ ms; first token after [0-9.]+ ms"));
  folder.write("run.json", "{}");
  const Outcome wrong = duet_program(model + " --compare '" + file + "'");
  EXPECT_EQ(wrong.code, 1);
  EXPECT_THAT(wrong.err, HasSubstr("run.json: got no result of a measurement, expected what bench --json prints"));
}

TEST(Bench, DecodesBehindALongContextInAnyFormat) {
  double f32_bytes = 0;
  for (const std::string kv : {"f32", "bf16", "f16", "q8"}) {
    const Outcome outcome = duet_program("bench '" + golden("gpt2-0") + "' --prefill 8 --decode 4 --context 40 --json --kv " + kv);
    ASSERT_EQ(outcome.code, 0) << outcome.err;
    const auto decode = outcome.json()["decode"];
    EXPECT_EQ(decode["context"], 40);
    EXPECT_EQ(decode["kv"], kv);
    const double bytes = decode["kv_bytes_per_token"].get<double>();
    if (kv == "f32") f32_bytes = bytes;
    EXPECT_LE(bytes, kv == "f32" ? f32_bytes : kv == "q8" ? f32_bytes / 3 : f32_bytes / 2);
    EXPECT_GT(decode["bytes_per_token"].get<double>(), bytes);
  }
  const Outcome beyond = duet_program("bench '" + golden("gpt2-0") + "' --context 100000");
  EXPECT_EQ(beyond.code, 1);
  EXPECT_THAT(beyond.err, HasSubstr("100000"));
}

/// Whatever its fusion: a hybrid's prompts have no place for the view of the whole.
TEST(Bench, MeasuresEveryFusion) {
  for (const char* model : {"nvlm-d-0", "nvlm-x-0", "nvlm-h-0"}) {
    const Outcome outcome = duet_program("bench '" + golden(model) + "' --prefill 8 --decode 2 --threads 1 --json");
    ASSERT_EQ(outcome.code, 0) << model << ": " << outcome.err;
    EXPECT_GT(outcome.json()["first_token"]["ms"].get<double>(), 0) << model;
  }
}

TEST(Bench, MeasuresInOneRun) {
  const Outcome outcome = duet_program("bench '" + golden("llava-0") + "' --prefill 16 --decode 4 --image --json --threads 2");
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_EQ(outcome.err, "");
  const auto result = outcome.json();
  const auto positive = [&](const nlohmann::json& part, std::initializer_list<const char*> keys) {
    for (const char* key : keys) {
      ASSERT_TRUE(part.contains(key)) << key << " in " << part;
      EXPECT_GT(part[key].get<double>(), 0) << key;
    }
  };
  positive(result, {"load_ms", "peak_rss_mb"});
  positive(result["machine"], {"read_gb_s", "fma_gflop_s"});
  positive(result["prefill"], {"tokens", "tokens_per_s", "gflop", "gflop_s", "fraction_of_fma_peak"});
  positive(result["decode"], {"tokens", "tokens_per_s", "bytes_per_token", "gb_s", "fraction_of_bandwidth"});
  positive(result["image"], {"ms", "gflop", "gflop_s", "fraction_of_fma_peak"});
  EXPECT_EQ(result["prefill"]["tokens"], 16);
  EXPECT_EQ(result["decode"]["tokens"], 4);
  ASSERT_GE(result["probes"].size(), 10u);
  double read = 0, fma = 0;
  for (const auto& probe : result["probes"]) {
    positive(probe, {"read_gb_s", "fma_gflop_s"});
    read = std::max(read, probe["read_gb_s"].get<double>());
    fma = std::max(fma, probe["fma_gflop_s"].get<double>());
  }
  EXPECT_EQ(result["machine"]["read_gb_s"], read) << "the best of the probes";
  EXPECT_EQ(result["machine"]["fma_gflop_s"], fma);
}

}  // namespace end_to_end_program
}  // namespace duet::testing
