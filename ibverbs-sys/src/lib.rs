//! Raw bindings to the libibverbs subset that raw packets need, loaded at run time.
