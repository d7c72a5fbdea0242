//! Counts requests to the API listener.

use super::Counter;

/// The statuses that are counted, each with its label.
const STATUSES: [(u16, &str); 12] = [
    (200, "200"),
    (400, "400"),
    (401, "401"),
    (403, "403"),
    (404, "404"),
    (405, "405"),
    (413, "413"),
    (416, "416"),
    (429, "429"),
    (500, "500"),
    (503, "503"),
    (0, OTHER),
];

/// The label of every other method or status.
const OTHER: &str = "other";

/// Requests to the API listener by method and status. Only the control thread writes them.
#[derive(Debug)]
pub struct ApiCounters {
    /// Labels of the methods; the last one stands for all others.
    methods: Vec<&'static str>,
    counts: Vec<[Counter; STATUSES.len()]>,
}

impl ApiCounters {
    /// Creates counters for these methods and for "other".
    pub fn new(methods: impl IntoIterator<Item = &'static str>) -> ApiCounters {
        let methods: Vec<&'static str> = methods.into_iter().chain([OTHER]).collect();
        let counts = methods.iter().map(|_| Default::default()).collect();
        ApiCounters { methods, counts }
    }

    /// Counts a request. Only the control thread may call it.
    pub fn count(&self, method: &str, status: u16) {
        let method = self.methods.iter().position(|&known| known == method);
        let status = STATUSES.iter().position(|&(known, _)| known == status);
        let row = &self.counts[method.unwrap_or(self.methods.len() - 1)];
        row[status.unwrap_or(STATUSES.len() - 1)].add(1);
    }

    /// Returns method, status and number: of each method the successful requests, and of the other
    /// statuses those that happened.
    pub(super) fn rows(&self) -> impl Iterator<Item = ([(&'static str, String); 2], u64)> {
        self.methods.iter().zip(&self.counts).flat_map(|(method, counts)| {
            let rows =
                STATUSES.iter().zip(counts).map(|(status, counter)| (*status, counter.value()));
            let shown = rows.filter(|&((code, _), count)| code == 200 || count > 0);
            shown.map(|((_, status), count)| {
                ([("method", (*method).to_owned()), ("status", status.to_owned())], count)
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_request_counts_and_labels_are_of_a_fixed_set() {
        let counters = ApiCounters::new(["publish", "info"]);
        for (method, status) in
            [("publish", 200), ("publish", 200), ("publish", 401), ("x\"y", 404), ("info", 299)]
        {
            counters.count(method, status);
        }
        let rows: Vec<(String, u64)> = counters
            .rows()
            .map(|([(_, method), (_, status)], count)| (format!("{method} {status}"), count))
            .collect();
        let expected = [
            ("publish 200", 2),
            ("publish 401", 1),
            ("info 200", 0),
            ("info other", 1),
            ("other 200", 0),
            ("other 404", 1),
        ];
        let expected: Vec<(String, u64)> =
            expected.map(|(row, count)| (row.to_owned(), count)).into();
        assert_eq!(rows, expected);
    }
}
