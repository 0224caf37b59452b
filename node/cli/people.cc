#include "node/cli/people.h"

#include <iostream>

namespace starling::node::cli {
namespace {

constexpr std::size_t kPage = 1000;  // Rows asked for at once.

Json all_or_nothing(Json all, const Json& part, const char* field) {
  for (const Json& item : list_of(part, field)) all.push_back(item);
  return all;
}

}  // namespace

int report(const Json& results, const char* done) {
  int exit = kExitOk;
  for (const Json& result : results) {
    const std::string name = text_of(result, "name");
    const auto error = result.find("error");
    if (error == result.end() || error->is_null()) {
      std::cout << name << " " << (flag_of(result, "existed") ? "is there already, with this password" : done) << "\n";
      continue;
    }
    const std::string text = error->is_object() ? text_of(*error, "text") : text_of(result, "error");
    const auto code = error->is_object() ? static_cast<Errc>(number_of(*error, "code")) : Errc::kInvalid;
    const bool named = text.find(name) != std::string::npos;
    const int failed = complain(exit_code({code, text}), named ? text : name + ": " + text);
    if (exit == kExitOk) exit = failed;
  }
  return exit;
}

int list_all(const Arguments& arguments, const std::string& method, Json question, const char* field,
             Json& rows) {
  rows = Json::array();
  question["limit"] = kPage;
  for (bool more = true; more;) {
    Json page;
    if (const int code = admin_call(arguments, method, question, page); code != kExitOk) return code;
    rows = all_or_nothing(std::move(rows), page, field);
    more = flag_of(page, "more") && !list_of(page, field).empty();
    if (more) question["after"] = text_of(rows.back(), "name");
  }
  return kExitOk;
}

void admin_and_json(po::options_description& options) {
  add_admin_options(options);
  add_json_option(options);
}

po::typed_value<std::vector<std::string>>* words() { return po::value<std::vector<std::string>>(); }

}  // namespace starling::node::cli
