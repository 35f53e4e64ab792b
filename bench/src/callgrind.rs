//! Reads what callgrind wrote: instructions by function, and by call.

use std::collections::HashMap;

/// What a profile came to, without what the simulated libraries did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Profile {
    /// Instructions of ours and of the libraries that we called.
    pub ours: u64,
    /// Instructions of the simulated libraries and all that they called.
    pub simulated: u64,
    /// Calls to an allocator, but for those of the simulated libraries.
    pub allocations: u64,
    /// Functions that ran, as the linker knows them, with their own instructions.
    pub functions: Vec<(String, u64)>,
}

/// Is this a function of the simulated libraries?
fn is_simulated(function: &str) -> bool {
    function.contains("linerate_sim")
}

fn allocates(function: &str) -> bool {
    let name = function.split('\'').next().unwrap_or(function);
    ["malloc", "calloc", "realloc", "posix_memalign", "aligned_alloc", "mmap", "brk"]
        .contains(&name)
}

/// Sums up a profile in callgrind's format.
///
/// Calls from a function that is not simulated to one that is are taken off with everything below
/// them: their cost is the vendor library's part.
#[must_use]
pub fn sum(text: &str) -> Profile {
    let mut names = HashMap::<String, String>::new();
    let mut costs = HashMap::<String, u64>::new();
    let mut profile = Profile::default();
    let (mut caller, mut callee, mut calls) = (String::new(), String::new(), None);
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("fn=") {
            caller = name(rest, &mut names);
        } else if let Some(rest) = line.strip_prefix("cfn=") {
            callee = name(rest, &mut names);
        } else if let Some(rest) = line.strip_prefix("calls=") {
            calls = rest.split(' ').next().and_then(|n| n.parse::<u64>().ok());
        } else if line.starts_with(|c: char| c.is_ascii_digit() || "+-*".contains(c)) {
            let cost = line.split(' ').nth(1).and_then(|n| n.parse::<u64>().ok()).unwrap_or(0);
            match calls.take() {
                None => *costs.entry(caller.clone()).or_default() += cost,
                Some(n) if !is_simulated(&caller) => {
                    if is_simulated(&callee) {
                        profile.simulated += cost;
                    } else if allocates(&callee) {
                        profile.allocations += n;
                    }
                }
                Some(_) => {}
            }
        }
    }
    let all: u64 = costs.values().sum();
    profile.ours = all.saturating_sub(profile.simulated);
    profile.functions = costs.into_iter().filter(|(name, _)| !is_simulated(name)).collect();
    profile.functions.sort_by_key(|(name, cost)| (u64::MAX - cost, name.clone()));
    profile
}

/// Instructions of those functions of a program that call a function whose name has `callee` in it,
/// without what they call; and how often they do.
#[must_use]
pub fn callers_of(text: &str, program: &str, callee: &str) -> (u64, u64) {
    let (mut objects, mut names) = (HashMap::new(), HashMap::new());
    let (mut object, mut caller) = (String::new(), String::new());
    let mut costs = HashMap::<String, u64>::new();
    let mut calls = HashMap::<String, u64>::new();
    let (mut is_wanted, mut is_call) = (false, false);
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("ob=") {
            object = name(rest, &mut objects);
        } else if let Some(rest) = line.strip_prefix("cob=") {
            name(rest, &mut objects);
        } else if let Some(rest) = line.strip_prefix("fn=") {
            caller = name(rest, &mut names);
        } else if let Some(rest) = line.strip_prefix("cfn=") {
            is_wanted = name(rest, &mut names).contains(callee);
        } else if !object.ends_with(program) {
        } else if let Some(rest) = line.strip_prefix("calls=") {
            let n = rest.split(' ').next().and_then(|n| n.parse::<u64>().ok()).unwrap_or(0);
            *calls.entry(caller.clone()).or_default() += if is_wanted { n } else { 0 };
            is_call = true;
        } else if line.starts_with(|c: char| c.is_ascii_digit() || "+-*".contains(c)) {
            let cost = line.split(' ').nth(1).and_then(|n| n.parse::<u64>().ok()).unwrap_or(0);
            // What follows a call is the cost of that.
            if !std::mem::take(&mut is_call) {
                *costs.entry(caller.clone()).or_default() += cost;
            }
        }
    }
    calls.retain(|_, n| *n > 0);
    let cost = calls.keys().filter_map(|name| costs.get(name)).sum();
    (cost, calls.values().sum())
}

/// `(7) name` the first time, `(7)` from then on.
fn name(text: &str, names: &mut HashMap<String, String>) -> String {
    match text.split_once(' ') {
        Some((id, name)) => {
            names.insert(id.to_owned(), name.to_owned());
            name.to_owned()
        }
        None => names.get(text).cloned().unwrap_or_else(|| text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_simulated_is_taken_off_with_all_below_it() {
        let text = "fl=(1) a.rs\nfn=(1) hot\n1 100\ncfn=(2) linerate_sim_poll\ncalls=4 0\n2 60\n\
                    cfn=(3) memcpy\ncalls=1 0\n3 10\n\nfn=(2)\n5 40\ncfn=(3)\ncalls=4 0\n+1 20\n\n\
                    fn=(3)\n9 30\n";
        let profile = sum(text);
        assert_eq!((profile.ours, profile.simulated), (110, 60));
        assert_eq!(profile.functions[0], ("hot".into(), 100));
    }

    #[test]
    fn callers_are_counted_without_what_they_call() {
        let text = "ob=(1) /usr/bin/them\nfn=(1) loop\n1 100\ncob=(2) driver.so\ncfn=(2) sim_poll_cq\n\
                    calls=4 0\n2 60\n1 5\ncfn=(3) sim_post\ncalls=9 0\n3 10\nfn=(4) other\n1 7\n\n\
                    ob=(2)\nfn=(2)\n5 40\nfn=(5) inner\n1 3\ncfn=(2)\ncalls=2 0\n+1 20\n";
        assert_eq!(callers_of(text, "/them", "poll_cq"), (105, 4));
        assert_eq!(callers_of(text, "/them", "nothing"), (0, 0));
    }

    #[test]
    fn allocations_of_ours_are_counted_and_those_of_the_simulation_are_not() {
        let text = "fn=(1) hot\n1 1\ncfn=(2) malloc\ncalls=3 0\n1 9\n\
                    fn=(4) linerate_sim_x\n1 1\ncfn=(2)\ncalls=5 0\n1 9\n";
        assert_eq!(sum(text).allocations, 3);
    }
}
