#include "duet/io/chat_template.hpp"

#include <gmock/gmock.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "support/temp_folder.hpp"

namespace duet {
namespace io_chat_template {

using ::testing::AllOf;
using ::testing::HasSubstr;
using test::TempFolder;

constexpr const char* kRequest = R"({"messages": [{"role": "user", "content": "Hi"}], "s": "Ab c", "n": 3, "nums": [3, 1, 2],
  "d": {"z": 1, "a": {"b": [true, null]}}, "words": ["b", "A", "c"]})";
const jinja::CivilTime kNow{std::chrono::year(2024) / 7 / 26, 9, 5, 0};

std::string render(std::string_view source, std::string_view request = kRequest, jinja::Limits limits = {}) {
  return ChatTemplate::parse(source, {{"bos_token", "<s>"}}).render_json(request, "request", kNow, limits);
}

template <class Call>
Error error_of(const Call& call) {
  try {
    static_cast<void>(call());
  } catch (const Error& e) {
    return e;
  }
  return {ErrorKind::kMissingTensor, "nothing was thrown", "", ""};
}
Error problem(std::string_view source, std::string_view request = kRequest, jinja::Limits limits = {}) {
  return error_of([&] { return render(source, request, limits); });
}

TEST(Jinja, WhitespaceIsControlledAsTransformersSetsItUp) {
  EXPECT_EQ(render("a\n  {% if true %}\n  b\n  {% endif %}\nc\n"), "a\n  b\nc") << "a block takes its line's indent and line break with it";
  EXPECT_EQ(render("a \n {%- if true -%} \n b \n {%- endif -%} \n c"), "abc");
  EXPECT_EQ(render("a\n  {%+ if true +%}\nb{% endif %}"), "a\n  \nb");
  EXPECT_EQ(render("  {{ n }}\n"), "  3") << "values keep what is around them; the template's last line break goes";
  EXPECT_EQ(render("a\n  {# note #}\nb"), "a\nb");
  EXPECT_EQ(render("a {#- note -#} b"), "ab");
  EXPECT_EQ(render("{% raw %}{{ x }}{% endraw %}"), "{{ x }}");
  EXPECT_EQ(render("x{{ {'a': {'b': 1}}}}y"), "x{'a': {'b': 1}}y") << "braces are counted";
}

TEST(Jinja, ExpressionsHavePythonsPrecedenceAndTypes) {
  EXPECT_EQ(render("{{ 1 + 2 * 3 ** 2 // 4 }} {{ -2 ** 2 }} {{ 7 / 2 }} {{ -7 // 2 }} {{ -7 % 3 }}"), "5 4 3.5 -4 2");
  EXPECT_EQ(render("{{ not 1 == 2 and 'x' or 'y' }} {{ 1 < 2 < 3 }} {{ 'a' in s.lower() }} {{ 4 not in nums }}"), "x True True True");
  EXPECT_EQ(render("{{ 'a' ~ 1 ~ none ~ 2.0 ~ [true] }}"), "a1None2.0[True]");
  EXPECT_EQ(render("{{ 'x' if n > 5 else 'y' if n > 2 else 'z' }}{{ 'gone' if false }}"), "y");
  EXPECT_EQ(render("{{ 1e16 }} {{ 1e-5 }} {{ 0.1 + 0.2 }} {{ 1e22 }} {{ 100.0 }}"), "1e+16 1e-05 0.30000000000000004 1e+22 100.0");
  EXPECT_EQ(render("{{ [\"it's\", 'a\"b', '\\n\\x07é'] }}"), R"(["it's", 'a"b', '\n\x07é'])");
  EXPECT_EQ(render("{{ s[0] }}{{ s[-1] }}{{ s[::-1] }}{{ s[1:3] }}|{{ nums[1:] }}|{{ 'ñé'[1] }}"), "Acc bAb |[1, 2]|é");
  EXPECT_EQ(render("{{ d.a.b[0] }}{{ d['a']['b'][1] }}{{ d.nope is defined }}{{ d.nope }}{{ d.items is callable }}"), "TrueNoneFalseTrue");
}

TEST(Jinja, LoopsHaveTheirVariable) {
  EXPECT_EQ(render("{% for x in nums %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ x }} {% endfor %}"),
            "103TrueFalse33 212FalseFalse31 321FalseTrue32 ");
  EXPECT_EQ(render("{% for x in nums %}{{ loop.previtem }}{{ x }}{{ loop.nextitem }},{{ loop.cycle('a', 'b') }};{% endfor %}"), "31,a;312,b;12,a;");
  EXPECT_EQ(render("{% for x in nums if x > 1 %}{{ loop.index }}{{ x }}{% else %}none{% endfor %}{% for x in [] %}{% else %}none{% endfor %}"), "1322none");
  EXPECT_EQ(render("{% for x in range(9) %}{% if x == 1 %}{% continue %}{% elif x == 4 %}{% break %}{% endif %}{{ x }}{% endfor %}"), "023");
  EXPECT_EQ(render("{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}{% for k in d %}{{ k }}{% endfor %}"), "z=1;a={'b': [True, None]};za");
  EXPECT_EQ(render("{% for x in [1, [2, [3]]] recursive %}{% if x is sequence %}({{ loop(x) }}){% else %}{{ x }}{{ loop.depth }}{% endif %}{% endfor %}"), "11(22(33))");
}

TEST(Jinja, ScopesEndWithTheirBlocksAndNamespacesDoNot) {
  EXPECT_EQ(render("{% set x = 1 %}{% for i in [1] %}{% set x = 2 %}{{ x }}{% endfor %}{{ x }}{% if true %}{% set x = 3 %}{% endif %}{{ x }}"), "213");
  EXPECT_EQ(render("{% set ns = namespace(n=0) %}{% for i in nums %}{% set ns.n = ns.n + i %}{% endfor %}{{ ns.n }}"), "6");
  EXPECT_EQ(render("{% set x %}a{{ n }}{% endset %}{{ x }}{% set a, b = 1, [2] %}{{ a }}{{ b }}"), "a31[2]");
  EXPECT_EQ(render("{% with n = 5, m = n %}{{ n }}{{ m }}{% endwith %}{{ n }}{% filter upper %}a{{ n }}{% endfilter %}"), "533A3");
  EXPECT_EQ(render("{% generation %}{{ s }}{% endgeneration %}"), "Ab c");
}

TEST(Jinja, MacrosAreFunctions) {
  EXPECT_EQ(render("{% macro f(a, b='x', c=a) %}{{ a }}{{ b }}{{ c }};{% endmacro %}{{ f(1) }}{{ f(1, c=2) }}{{ f() }}"), "1x1;1x2;x;");
  EXPECT_EQ(render("{% macro f() %}{{ x }}{% endmacro %}{% set x = 1 %}{{ f() }}{% set x = 2 %}{{ f() }}"), "12");
  EXPECT_EQ(render("{% macro f(x) %}<{{ caller(x) }}>{% endmacro %}{% call(y) f(4) %}{{ y }}!{% endcall %}"), "<4!>");
  EXPECT_EQ(render("{% macro f(n) %}{{ n }}{% if n %}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(3) }}"), "3210");
  EXPECT_THAT(problem("{% macro f(a) %}{% endmacro %}{{ f(1, 2) }}").what(), HasSubstr("at most 1"));
}

TEST(Jinja, FiltersAndTestsAreJinjas) {
  EXPECT_EQ(render("{{ ' a b ' | trim | upper }}{{ words | join(',') }}{{ words | sort | join }}{{ nums | max }}{{ nums | sum }}{{ nums | length }}"), "A Bb,A,cAbc363");
  EXPECT_EQ(render("{{ [{'a': 1}, {}, {'a': 2}] | selectattr('a') | map(attribute='a') | list }}{{ nums | reject('odd') | list }}"), "[1, 2][2]");
  EXPECT_EQ(render("{{ d | dictsort }}{{ d | items | list | length }}{{ '7' | int + 1 }}{{ 'x' | int(9) }}{{ nope | default('y') }}{{ '' | d('z', true) }}"),
            "[('a', {'b': [True, None]}), ('z', 1)]289yz");
  EXPECT_EQ(render("{{ 'a\nb\n\nc' | indent(2) }}|{{ 2.5 | round }}{{ 2.567 | round(2) }}{{ '<' | e }}{{ 'hello world-wide' | title }}"),
            "a\n  b\n\n  c|2.02.57&lt;Hello World-Wide");
  EXPECT_EQ(render("{{ 3 is odd }}{{ 4 is divisibleby 2 }}{{ nope is none }}{{ d is mapping }}{{ s is string }}{{ nums is sequence }}{{ 'b' is in words }}{{ 1 is not number }}"),
            "TrueTrueFalseTrueTrueTrueTrueFalse");
}

TEST(Jinja, JsonIsTransformersOwn) {
  EXPECT_EQ(render("{{ d | tojson }}"), R"({"z": 1, "a": {"b": [true, null]}})") << "keys keep their order";
  EXPECT_EQ(render("{{ {'é<': '\n\"\x7f'} | tojson }}"), "{\"é<\": \"\\n\\\"\x7f\"}") << "characters stay, and nothing is escaped for HTML";
  EXPECT_EQ(render("{{ ['é😀'] | tojson(ensure_ascii=true) }}"), R"(["\u00e9\ud83d\ude00"])");
  EXPECT_EQ(render("{{ [1, {'b': [], 'a': {}}] | tojson(indent=2, sort_keys=true) }}"), "[\n  1,\n  {\n    \"a\": {},\n    \"b\": []\n  }\n]");
  EXPECT_EQ(render("{{ {1: 1.0, none: 1e100} | tojson(separators=(',', ':')) }}"), R"({"1":1.0,"null":1e+100})");
  EXPECT_THAT(problem("{{ [nope] | tojson }}").what(), HasSubstr("Undefined"));
}

TEST(Jinja, StringsHavePythonsMethods) {
  EXPECT_EQ(render("{{ ' a,b '.strip().split(',') }}{{ 'a b  c '.split(none, 1) }}{{ 'a b c'.rsplit(' ', 1) }}{{ 'x'.join(words) }}"), "['a', 'b']['a', 'b  c ']['a b', 'c']bxAxc");
  EXPECT_EQ(render("{{ 'aXbX'.replace('X', '-', 1) }}{{ 'abc'.startswith(('x', 'ab')) }}{{ 'ñañ'.find('a') }}{{ 'ab'.center(5, '*') }}{{ '-7'.zfill(4) }}"), "a-bXTrue1**ab*-007");
  EXPECT_EQ(render("{{ '%s:%03d:%.2f' % ('a', 7, 1.5) }}{{ '{} {k}'.format(1, k='x') }}{{ 'a\r\nb'.splitlines() }}"), "a:007:1.501 x['a', 'b']");
}

TEST(Jinja, EveryProblemNamesTheLine) {
  EXPECT_THAT(problem("a\n{{ raise_exception('no ' ~ n) }}").what(), AllOf(HasSubstr("line 2"), HasSubstr("no 3")));
  EXPECT_THAT(problem("\n\n{{ nope.x }}").what(), AllOf(HasSubstr("line 3"), HasSubstr("nope")));
  EXPECT_THAT(problem("{{ 'a' + 1 }}").what(), HasSubstr("str + int"));
  EXPECT_THAT(problem("{{ d.clear() }}").what(), HasSubstr("sandbox"));
  EXPECT_EQ(problem("a\n{% include 'x' %}").kind(), ErrorKind::kUnsupportedModel);
  EXPECT_THAT(problem("a\n{% include 'x' %}").what(), AllOf(HasSubstr("line 2"), HasSubstr("{% include %}")));
  EXPECT_THAT(problem("{{ 'a' | urlize }}").what(), HasSubstr("the filter urlize"));
  EXPECT_EQ(problem("{% if x %}").kind(), ErrorKind::kMalformedFile);
  EXPECT_THAT(problem("{% if x %}\n\n").what(), HasSubstr("{% endif %}"));
  EXPECT_THAT(problem("{{ 'a }}").what(), HasSubstr("a string without an end"));
  EXPECT_THAT(problem("{{ 9223372036854775807 + 1 }}").what(), HasSubstr("64 bits"));
}

TEST(Jinja, WhatATemplateMayUseUpIsBounded) {
  const jinja::Limits few{.steps = 10'000, .bytes = 100'000, .text_bytes = 1'000};
  for (const char* source : {
           "{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}",  // steps
           "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",                                   // levels
           "{{ 'x' * 1000000 }}", "{{ 'x'.center(1000000) }}", "{{ ('x' * 999).replace('x', 'y' * 99) }}", "{{ [0] * 100000000 }}",
           "{% set ns = namespace(l=[]) %}{% for i in range(1000) %}{% set ns.l = [ns.l] %}{% endfor %}",                  // nesting
           "{% set ns = namespace(l=[1]) %}{% for i in range(60) %}{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ ns.l }}",  // a list of 2^60
           "{% set ns = namespace(t='x') %}{% for i in range(60) %}{% set ns.t = ns.t ~ ns.t %}{% endfor %}", "{{ 2 ** 99999 }}", "{{ range(10 ** 9) }}"}) {
    EXPECT_EQ(problem(source, kRequest, few).kind(), ErrorKind::kInvalidArgument) << source;
  }
  const std::string deep(1000, '('), wide = "{{ 1" + [] { std::string s; for (int i = 0; i < 5000; ++i) s += "+1"; return s; }() + " }}";
  EXPECT_EQ(problem("{{ " + deep).kind(), ErrorKind::kMalformedFile);
  EXPECT_EQ(problem(wide).kind(), ErrorKind::kMalformedFile);
  std::string blocks;
  for (int i = 0; i < 1000; ++i) blocks += "{% if true %}";
  EXPECT_EQ(problem(blocks).kind(), ErrorKind::kMalformedFile);
}

TEST(Jinja, NamespacesThatHoldThemselvesAreFreed) {  // the leak sanitizer watches
  EXPECT_EQ(render("{% set a = namespace() %}{% set b = namespace(a=a) %}{% set a.b = b %}{% macro f() %}{% endmacro %}{% set a.f = f %}{{ a.b.a is callable }}"), "False");
}

TEST(ChatTemplate, TheDateIsTheCallers) {
  EXPECT_EQ(render("{{ strftime_now('%d %b %Y, %A %-d %B %y %H:%M %j %p %F') }}"), "26 Jul 2024, Friday 26 July 24 09:05 208 AM 2024-07-26");
  EXPECT_EQ(problem("{{ strftime_now('%Q') }}").kind(), ErrorKind::kUnsupportedModel);
  EXPECT_THROW(static_cast<void>(jinja::CivilTime::parse("2024-02-30")), Error);
  EXPECT_THROW(static_cast<void>(jinja::CivilTime::parse("24-2-3")), Error);
}

TEST(ChatTemplate, RequestsAreVariables) {
  EXPECT_EQ(render("{{ bos_token }}{{ messages[0].role }}{{ add_generation_prompt }}{{ tools }}{{ extra }}", R"({"messages": [{"role": "user"}], "extra": 1})"), "<s>userFalseNone1");
  EXPECT_EQ(render("{{ bos_token }}", R"({"messages": [], "bos_token": "x"})"), "x");
  EXPECT_THAT(problem("", "[]").what(), HasSubstr("messages"));
  EXPECT_EQ(problem("", "{").kind(), ErrorKind::kMalformedFile);
  EXPECT_THAT(problem("", R"({"messages": [123456789012345678901]})").what(), HasSubstr("64 bits"));
}

TEST(ChatTemplate, IsFoundWhereTransformersLooks) {
  const TempFolder folder;
  EXPECT_FALSE(ChatTemplate::find(folder.path()));
  EXPECT_THAT(error_of([&] { return ChatTemplate::load(folder.path()); }).what(), HasSubstr("no chat template"));
  const auto prompt = [&](std::string_view request = R"({"messages": []})") { return ChatTemplate::load(folder.path()).render_json(request, "request", kNow); };
  folder.write("tokenizer_config.json", R"({"bos_token": {"content": "<b>"}, "eos_token": null, "chat_template": "config {{ bos_token }}{{ eos_token }}"})");
  folder.write("special_tokens_map.json", R"({"eos_token": "<e>", "bos_token": "<other>"})");
  EXPECT_EQ(prompt(), "config <b><e>");
  folder.write("tokenizer_config.json", R"({"chat_template": [{"name": "default", "template": "plain"}, {"name": "tool_use", "template": "tools"}]})");
  EXPECT_EQ(prompt(), "plain");
  EXPECT_EQ(prompt(R"({"messages": [], "tools": []})"), "tools");
  folder.write("chat_template.json", R"({"chat_template": "json"})");
  EXPECT_EQ(prompt(), "json");
  folder.write("chat_template.jinja", "jinja");
  EXPECT_EQ(prompt(), "jinja");
  folder.write("chat_template.jinja", "a\n{% frob %}");
  EXPECT_THAT(error_of([&] { return ChatTemplate::load(folder.path()); }).what(), AllOf(HasSubstr("chat_template.jinja, line 2"), HasSubstr("frob")));
}

TEST(ChatTemplate, KnowsWhetherItReadsParts) {
  using Content = ChatTemplate::Content;
  const auto text = ChatTemplate::parse("{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}");
  const auto sum = ChatTemplate::parse("{% for m in messages %}{{ '[' + m.role + ']' + m.content }}{% endfor %}");
  const auto parts = ChatTemplate::parse("{% for m in messages %}[{{ m.role }}]{% for p in m.content %}{{ '<image>' if p.type == 'image' else p.text }}{% endfor %}{% endfor %}");
  EXPECT_EQ(text.reads(), Content::kText);
  EXPECT_EQ(sum.reads(), Content::kText);
  EXPECT_EQ(parts.reads(), Content::kParts);
  const ChatMessage message{"user", {{ChatPart::Kind::kImage}, {ChatPart::Kind::kText, "What?"}}};
  EXPECT_EQ(text.render({&message, 1}, Content::kText, "<img>", kNow), "[user]<img>\nWhat?");
  EXPECT_EQ(parts.render({&message, 1}, Content::kParts, "<img>", kNow), "[user]<image>What?");
}

/// Published templates, and what the reference renders of conversations: NAME.jinja and NAME.json.
void expect_goldens(const std::filesystem::path& folder) {
  int cases = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (entry.path().extension() != ".json") continue;
    const nlohmann::ordered_json golden = nlohmann::ordered_json::parse(TempFolder::read(entry.path()));
    std::filesystem::path source = entry.path();
    const auto chat_template = ChatTemplate::parse(TempFolder::read(source.replace_extension(".jinja")), golden["special_tokens"].get<std::map<std::string, std::string>>());
    for (const auto& c : golden["cases"]) {
      const nlohmann::ordered_json request = {{"messages", c["messages"]}, {"add_generation_prompt", c["add_generation_prompt"]}};
      const auto rendered = [&] { return chat_template.render_json(request.dump(), "request", kNow); };
      if (c.contains("error")) {
        EXPECT_THROW(static_cast<void>(rendered()), Error) << entry.path() << c["conversation"];
      } else {
        EXPECT_EQ(rendered(), c["rendered"].get<std::string>()) << entry.path() << c["conversation"];
      }
      ++cases;
    }
  }
  EXPECT_GT(cases, 0);
}

TEST(ChatTemplate, PublishedTemplatesGiveTheReferencesPrompts) { expect_goldens(std::string(DUET_TEST_GOLDEN_DIR) + "/templates"); }

TEST(ChatTemplate, MorePublishedTemplates) {
  const std::filesystem::path folder = std::string(DUET_SHARED_DIR) + "/templates";
  if (!std::filesystem::exists(folder)) GTEST_SKIP() << folder << " is not there";
  expect_goldens(folder);
}

}  // namespace io_chat_template
}  // namespace duet
