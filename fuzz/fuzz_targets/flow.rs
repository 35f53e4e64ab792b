//! Text of a user as flows: never a panic, and what was understood reads back the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use linerate_common::FlowSpec;

fuzz_target!(|text: &str| {
    if let Ok(flow) = text.parse::<FlowSpec>() {
        let again: FlowSpec = flow.to_string().parse().expect("its own text is understood");
        assert_eq!(again, flow, "{text:?} was printed as {flow}");
    }
    if let Ok(flows) = FlowSpec::parse_list(text) {
        assert!(!flows.is_empty() && flows.len() <= 1 << 20, "{} flows", flows.len());
    }
});
