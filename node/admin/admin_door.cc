#include "node/admin/admin_door.h"

#include <nlohmann/json.hpp>

namespace starling::node {
namespace {

constexpr View kMethods = "/v1/";

HttpRouter probes(const AdminHooks& hooks) {
  HttpRouter router;
  router.add("GET", "/metrics", [metrics = hooks.metrics](const HttpRequest&, HttpRespond respond) {
    HttpResponse response = http_text(200, metrics());
    response.type = "text/plain; version=0.0.4; charset=utf-8";
    respond(std::move(response));
  });
  router.add("GET", "/healthz", [](const HttpRequest&, HttpRespond respond) {
    respond(http_text(200, "ok\n"));
  });
  router.add("GET", "/readyz", [ready = hooks.ready, draining = hooks.draining](const HttpRequest&,
                                                                                HttpRespond respond) {
    if (ready()) return respond(http_text(200, "ready\n"));
    respond(draining() ? http_text(404, "draining\n") : http_text(503, "catching up\n"));
  });
  return router;
}

HttpRouter operators(const AdminHooks& hooks) {
  HttpRouter router = probes(hooks);
  router.add("POST", "/v1/*", [call = hooks.call](const HttpRequest& request, HttpRespond respond) {
    Json arguments = request.body.empty() ? Json::object() : Json::parse(request.body, nullptr, false);
    if (!arguments.is_object()) {
      return respond(http_error({Errc::kInvalid, "the body is not a JSON object"}));
    }
    call(request.path.substr(kMethods.size()), arguments, [respond](Result<Json> answer) {
      if (!answer) return respond(http_error(answer.error()));
      respond(http_json(200, answer->dump(-1, ' ', false, Json::error_handler_t::replace)));
    });
  });
  return router;
}

}  // namespace

AdminDoor::AdminDoor(overlay::Loop& loop, overlay::Transport& transport, const AdminHooks& hooks)
    : tcp_(loop, transport, probes(hooks)), unix_(loop, transport, operators(hooks)) {}

Result<std::unique_ptr<AdminDoor>> AdminDoor::open(overlay::Loop& loop, overlay::Transport& transport,
                                                   const overlay::Endpoint& tcp,
                                                   const overlay::Endpoint& socket, AdminHooks hooks) {
  std::unique_ptr<AdminDoor> door(new AdminDoor(loop, transport, hooks));
  TRY(door->tcp_.listen(tcp));
  TRY(door->unix_.listen(socket));
  return door;
}

}  // namespace starling::node
