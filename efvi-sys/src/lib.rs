//! Raw bindings to ef_vi (Solarflare, AMD), buildable without the SDK.
