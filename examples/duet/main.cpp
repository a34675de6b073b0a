#include <CLI/CLI.hpp>
#include <cstdio>
#include <exception>
#include <iostream>
#include <new>
#include <stdexcept>

#include "commands.hpp"
#include "duet/core/error.hpp"

namespace {

/// Exit codes: well, bad input, wrong usage.
enum Exit : int { kWell = 0, kBadInput = 1, kUsage = 2 };

template <class Options>
void add_threads(CLI::App* command, Options& options) {
  command->add_option("--threads", options.threads, "Threads to use; 0: one per core")->check(CLI::Range(0, 1024));
}

template <class Options>
void add_kv(CLI::App* command, Options& options) {
  command
      ->add_option_function<std::string>(
          "--kv", [&](const std::string& name) { options.kv_format = duet::key_value_format_named(name, "--kv"); },
          "Storage of the keys and values read: f32, bf16, f16 or q8")
      ->check(CLI::IsMember(std::vector<std::string>(duet::kKeyValueFormatNames.begin(), duet::kKeyValueFormatNames.end())));
}

/// An empty list or text is a slip: a shell variable that was never set.
const CLI::Validator kNotEmpty([](std::string& text) { return text.empty() ? std::string("must not be empty") : std::string(); }, "");

template <class Options>
void add_weights(CLI::App* command, Options& options) {
  command->add_option("--weights", options.weights, "Store the weights so: f32, bf16, f16, q8 (8 bits), q4 (4 bits)")
      ->check(CLI::IsMember({"f32", "bf16", "f16", "q8", "q4"}));
}

CLI::Range counts() { return CLI::Range(std::int64_t{1}, std::int64_t{1} << 30); }

/// What was printed must have arrived: the disk may be full.
void flush_output() {
  if (std::cout.flush() && std::fflush(stdout) == 0) return;
  throw duet::Error(duet::ErrorKind::kFileNotReadable, "standard output", "a write error", "room for the whole output");
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Multimodal language models on the CPU, straight from Hugging Face checkpoint folders", "duet");
  app.require_subcommand(1);
  app.set_version_flag("--version", version_text);
  int result = kWell;

  RunOptions run_options;
  {
    CLI::App* c = app.add_subcommand("run", "Answer a prompt, about pictures if there are any, or caption a picture");
    c->add_option("MODEL", run_options.model, "Checkpoint folder")->required();
    c->add_option("--image", run_options.images, "Picture (PNG, JPEG, BMP); may be given several times");
    CLI::Option* prompt = c->add_option("--prompt", run_options.prompt, "What to say");
    c->add_option("--prompt-ids", run_options.prompt_ids, "The prompt as token ids: 1,2,3")->delimiter(',')->check(kNotEmpty)->excludes(prompt);
    c->add_option("--max-new-tokens", run_options.max_new_tokens, "Longest reply")->check(counts());
    c->add_option("--temperature", run_options.temperature, "0: greedy");
    c->add_option("--top-k", run_options.top_k, "Keep the k likeliest tokens; 0: all");
    c->add_option("--top-p", run_options.top_p, "Keep the likeliest tokens that together reach p");
    c->add_option("--min-p", run_options.min_p, "Keep tokens at least this likely, relative to the likeliest");
    c->add_option("--repetition-penalty", run_options.repetition_penalty, "Above 1 discourages repetition");
    c->add_option("--seed", run_options.seed, "The same seed gives the same text");
    c->add_option("--stop", run_options.stop, "End the reply before this text; may be given several times")->check(kNotEmpty);
    c->add_flag("--raw", run_options.raw, "The prompt is the exact text: no chat template, no wording around it")->needs(prompt);
    c->add_flag("--dry-run", run_options.dry_run, "Show the prompt's ids, pictures expanded, and run nothing: needs no weights");
    c->add_flag("--json", run_options.json, "Print one JSON object");
    add_weights(c, run_options);
    add_kv(c, run_options);
    add_threads(c, run_options);
    c->callback([&] { result = run(run_options); });
  }
  ChatOptions chat_options;
  {
    CLI::App* c = app.add_subcommand("chat", "Converse; /image FILE, /save FILE, /load FILE, /clear, /quit");
    c->add_option("MODEL", chat_options.model, "Checkpoint folder")->required();
    c->add_option("--context", chat_options.context, "Positions kept")->check(counts());
    c->add_option("--max-new-tokens", chat_options.max_new_tokens, "Longest reply")->check(counts());
    c->add_option("--temperature", chat_options.temperature, "0: greedy");
    c->add_option("--seed", chat_options.seed, "The same seed gives the same text");
    add_weights(c, chat_options);
    add_kv(c, chat_options);
    add_threads(c, chat_options);
    c->callback([&] { result = chat(chat_options); });
  }
  ForwardOptions forward_options;
  {
    CLI::App* c = app.add_subcommand("forward", "Run a forward pass on stored inputs and store every stage");
    c->add_option("MODEL", forward_options.model, "Checkpoint folder")->required();
    c->add_option("IN", forward_options.input, "Tensors named inputs.<argument>")->required();
    c->add_option("OUT", forward_options.output, "Where the stages go")->required();
    c->add_option("--max-new-tokens", forward_options.max_new_tokens, "Also generate greedily, ignoring end of text")
        ->check(CLI::Range(std::int64_t{0}, std::int64_t{1} << 30));
    add_threads(c, forward_options);
    c->callback([&] { result = forward(forward_options); });
  }
  PreprocessOptions preprocess_options;
  {
    CLI::App* c = app.add_subcommand("preprocess", "Store what the model's image processor makes of pictures");
    c->add_option("MODEL", preprocess_options.model, "Checkpoint folder")->required();
    c->add_option("IMAGE", preprocess_options.images, "Pictures")->required();
    c->add_option("-o,--output", preprocess_options.output, "A safetensors file")->required();
    c->callback([&] { result = preprocess(preprocess_options); });
  }
  std::string model;
  InspectOptions inspect_options;
  {
    CLI::App* c = app.add_subcommand("tokenize", "One JSON string a line in, ids and decoded text out");
    c->add_option("MODEL", model, "Folder with tokenizer.json")->required();
    c->callback([&] { result = tokenize(model); });
  }
  TemplateOptions template_options;
  {
    CLI::App* c = app.add_subcommand("template", "One JSON object with messages a line in, the prompt that the chat template makes of it out");
    c->add_option("MODEL", template_options.model, "Folder with a chat template")->required();
    c->add_option("--date", template_options.date, "What the template takes for today: YYYY-MM-DD")->check(kNotEmpty);
    c->callback([&] { result = render_template(template_options); });
  }
  {
    CLI::App* c = app.add_subcommand("inspect", "Say what a checkpoint is, or what a picture becomes in it");
    c->add_option("MODEL", inspect_options.model, "Checkpoint folder")->required();
    c->add_option("--image-size", inspect_options.image_size, "WIDTHxHEIGHT of a picture, to plan it: needs no weights")->check(kNotEmpty);
    c->add_flag("--json", inspect_options.json, "Print one JSON object");
    c->callback([&] { result = inspect(inspect_options); });
  }
  CheckOptions check_options;
  {
    CLI::App* c = app.add_subcommand("check", "Replay the reference's outputs (golden*.safetensors) that lie in the folder");
    c->add_option("MODEL", check_options.model, "Checkpoint folder")->required();
    add_kv(c, check_options);
    add_threads(c, check_options);
    c->callback([&] { result = check(check_options); });
  }
  QuantizeOptions quantize_options;
  {
    CLI::App* c = app.add_subcommand("quantize", "Write a checkpoint folder again with weights of 8 or 4 bits");
    c->add_option("MODEL", quantize_options.model, "Checkpoint folder")->required();
    c->add_option("OUT", quantize_options.output, "A new folder")->required()->check(kNotEmpty);
    c->add_option("--weights", quantize_options.weights, "q8: every matrix in 8 bits; q4: in 4, embeddings, head and v_proj in 8")
        ->required()
        ->check(CLI::IsMember({"q8", "q4"}));
    c->callback([&] { result = quantize(quantize_options); });
  }
  PerplexityOptions perplexity_options;
  {
    CLI::App* c = app.add_subcommand("perplexity", "Say how well a model predicts a text, or what is said of pictures");
    c->add_option("MODEL", perplexity_options.model, "Checkpoint folder")->required();
    c->add_option("FILE", perplexity_options.file, "A text; or .jsonl with a picture (file), a text (text or captions) and a prompt a line")->required();
    c->add_option("--context", perplexity_options.context, "Tokens of a window of text")->check(CLI::Range(std::int64_t{2}, std::int64_t{1} << 30));
    c->add_flag("--json", perplexity_options.json, "Print one JSON object");
    add_weights(c, perplexity_options);
    add_threads(c, perplexity_options);
    c->callback([&] { result = perplexity(perplexity_options); });
  }
  AttendOptions attend_options;
  {
    CLI::App* c = app.add_subcommand("attend", "Draw where each word of a reply looks in the picture");
    c->add_option("MODEL", attend_options.model, "Checkpoint folder")->required();
    c->add_option("--image", attend_options.image, "Picture (PNG, JPEG, BMP)")->required();
    c->add_option("--prompt", attend_options.prompt, "What to say; without it the picture is captioned");
    CLI::Option* output = c->add_option("-o,--output", attend_options.output, "A PNG file: the picture once per word, under its heat map");
    CLI::Option* html = c->add_option("--html", attend_options.html, "A page: hovering over a word lights up the picture");
    c->add_option("--layer", attend_options.layer, "Of this layer alone; absent: the mean of all")->check(CLI::NonNegativeNumber);
    c->add_option("--head", attend_options.head, "Of this head alone; absent: the mean of all")->check(CLI::NonNegativeNumber);
    c->add_option("--max-new-tokens", attend_options.max_new_tokens, "Longest reply")->check(counts());
    CLI::Option* json_flag = c->add_flag("--json", attend_options.json, "Print one JSON object, heat maps included");
    add_weights(c, attend_options);
    add_kv(c, attend_options);
    add_threads(c, attend_options);
    c->callback([&, output, html, json_flag] {
      if (output->empty() && html->empty() && json_flag->empty()) throw CLI::RequiredError("-o, --html or --json");
      result = attend(attend_options);
    });
  }
  BenchOptions bench_options;
  {
    CLI::App* c = app.add_subcommand("bench", "Measure speed, as fractions of what this machine can do");
    CLI::Option* folder = c->add_option("MODEL", bench_options.model, "Checkpoint folder");
    c->add_option("--shape", bench_options.shape, "Random weights of a known shape instead")
        ->check(CLI::IsMember({"gpt2", "smollm2-135m", "llama-3.2-1b", "vit-b16", "clip-l14-336", "siglip-b16-512"}))
        ->excludes(folder);
    add_weights(c, bench_options);
    c->add_option("--prefill", bench_options.prefill, "Prompt tokens")->check(counts());
    c->add_option("--decode", bench_options.decode, "Tokens to decode")->check(counts());
    c->add_option("--context", bench_options.context, "Positions read before decoding begins")->check(counts());
    c->add_flag("--image", bench_options.image, "Also encode an image");
    CLI::Option* as_json = c->add_flag("--json", bench_options.json, "Print one JSON object");
    c->add_option("--compare", bench_options.compare, "An earlier run's JSON, to print this one beside")->excludes(as_json);
    add_kv(c, bench_options);
    add_threads(c, bench_options);
    c->callback([&] {
      if (bench_options.model.empty() && bench_options.shape.empty()) throw CLI::RequiredError("MODEL or --shape");
      result = bench(bench_options);
    });
  }

  if (argc > 1 && argv[1][0] != '-' && app.get_subcommands([&](CLI::App* c) { return c->check_name(argv[1]); }).empty()) {
    std::cerr << argv[1] << ": no such verb\nRun with --help for more information.\n";
    return kUsage;
  }
  try {
    app.parse(argc, argv);
    flush_output();
  } catch (const CLI::ParseError& e) {
    const int code = app.exit(e);  // prints help or what was wrong
    return code == 0 ? kWell : kUsage;
  } catch (const duet::Error& e) {
    std::cerr << "duet: " << e.what() << '\n';
    return kBadInput;
  } catch (const std::bad_alloc&) {
    std::cerr << "duet: memory: got less than this takes, expected more; a smaller model, picture or context may fit\n";
    return kBadInput;
  } catch (const std::length_error&) {
    std::cerr << "duet: memory: got a size beyond any memory, expected less; is the model's folder as it was downloaded?\n";
    return kBadInput;
  } catch (const std::exception& e) {
    std::cerr << "duet: " << e.what() << '\n';
    return kBadInput;
  }
  return result;
}
