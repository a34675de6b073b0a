#pragma once

#include <array>
#include <charconv>
#include <chrono>
#include <cstdint>
#include <ctime>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>

#include "duet/core/error.hpp"
#include "duet/io/template/run.hpp"

namespace duet::jinja {

/// A date and a time of day, without a zone.
struct CivilTime {
  std::chrono::year_month_day date{std::chrono::year(1970), std::chrono::January, std::chrono::day(1)};
  int hour = 0, minute = 0, second = 0;

  /// Where this machine is.
  [[nodiscard]] static CivilTime now() {
    const std::time_t seconds = std::time(nullptr);
    std::tm local{};
    ::localtime_r(&seconds, &local);
    return {{std::chrono::year(local.tm_year + 1900), std::chrono::month(static_cast<unsigned>(local.tm_mon + 1)), std::chrono::day(static_cast<unsigned>(local.tm_mday))},
            local.tm_hour, local.tm_min, local.tm_sec};
  }

  /// "2024-07-26", at midnight.
  /// Errors  kInvalidArgument
  [[nodiscard]] static CivilTime parse(std::string_view text) {
    int year = 0;
    unsigned month = 0, day = 0;
    const auto read = [&](std::size_t at, std::size_t length, auto& number) {
      const std::string_view digits = text.substr(at, length);
      return digits.find_first_not_of("0123456789") == std::string_view::npos &&
             std::from_chars(digits.data(), digits.data() + digits.size(), number).ec == std::errc();
    };
    const bool shaped = text.size() == 10 && text[4] == '-' && text[7] == '-' && read(0, 4, year) && read(5, 2, month) && read(8, 2, day);
    const std::chrono::year_month_day date{std::chrono::year(year), std::chrono::month(month), std::chrono::day(day)};
    if (!shaped || !date.ok()) throw Error(ErrorKind::kInvalidArgument, "date", text, "a date as YYYY-MM-DD");
    return {date, 0, 0, 0};
  }
};

/// Python's strftime() in English: the fields that dates in prompts use.
/// Errors  kUnsupportedModel for another field
[[nodiscard]] inline std::string format_time(Run& run, std::string_view format, const CivilTime& time) {
  using namespace std::chrono;
  static constexpr std::string_view kMonths[] = {"January", "February", "March", "April", "May", "June",
                                                 "July", "August", "September", "October", "November", "December"};
  static constexpr std::string_view kDays[] = {"Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"};
  const sys_days days(time.date);
  const auto month = static_cast<unsigned>(time.date.month());
  const auto weekday_index = weekday(days).c_encoding();
  const int year_number = static_cast<int>(time.date.year()), twelve = time.hour % 12 == 0 ? 12 : time.hour % 12;
  const auto day_of_year = (days - sys_days(time.date.year() / January / 1)).count() + 1;
  std::string result;
  for (std::size_t i = 0; i < format.size(); ++i) {
    if (format[i] != '%') {
      result += format[i];
      continue;
    }
    const bool bare = format.substr(i + 1).starts_with('-');  // %-d: without zeros before it
    if (bare) ++i;
    const char field = ++i < format.size() ? format[i] : ' ';
    const auto number = [&](std::int64_t value, std::size_t width) {
      const std::string digits = concat(value);
      if (!bare && digits.size() < width) result += std::string(width - digits.size(), '0');
      result += digits;
    };
    switch (field) {
      case 'a': result += kDays[weekday_index].substr(0, 3); break;
      case 'A': result += kDays[weekday_index]; break;
      case 'b': result += kMonths[month - 1].substr(0, 3); break;
      case 'B': result += kMonths[month - 1]; break;
      case 'd': number(static_cast<unsigned>(time.date.day()), 2); break;
      case 'm': number(month, 2); break;
      case 'y': number(year_number % 100, 2); break;
      case 'Y': number(year_number, 4); break;
      case 'H': number(time.hour, 2); break;
      case 'I': number(twelve, 2); break;
      case 'M': number(time.minute, 2); break;
      case 'S': number(time.second, 2); break;
      case 'j': number(day_of_year, 3); break;
      case 'p': result += time.hour < 12 ? "AM" : "PM"; break;
      case 'F': result += format_time(run, "%Y-%m-%d", time); break;
      case 'T': result += format_time(run, "%H:%M:%S", time); break;
      case '%': result += '%'; break;
      default: throw run.unknown(concat("strftime_now's field %", field));
    }
  }
  return result;
}

}  // namespace duet::jinja
