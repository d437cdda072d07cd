using Workerd = import "/workerd/workerd.capnp";

const config :Workerd.Config = (
  services = [ (name = "fresh", worker = .fresh) ],
  sockets = [ (name = "fresh", address = "127.0.0.1:0", http = (), service = "fresh") ]
);

const fresh :Workerd.Worker = (
  modules = [ (name = "loader.js", esModule = embed "loader.js"), (name = "bundle", text = embed "bundle.js") ],
  compatibilityDate = "2026-01-01",
  bindings = [ (name = "LOADER", workerLoader = (id = "bench")) ]
);
