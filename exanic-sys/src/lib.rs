//! Raw bindings to libexanic (Exablaze, Cisco), buildable without the SDK.
