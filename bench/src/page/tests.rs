//! Tests of the page that read its elements, as a browser does, and not its text.

use super::chart::POINTS_MAX;
use super::*;
use roxmltree::{Document, Node};
use serde_json::json;

/// Long text that tries to close elements, attributes and comments, and to open a script.
const HOSTILE: &str = "</title></style></script><script>alert(1)</script>\" onload='x' & &lt; <!-- \
                       {{7*7}} ]]> \u{202e}日本語🦀 https://example.org/a?b=\"c\"&d=<e>";

fn axis(title: &str, scale: Scale, unit: Unit) -> Axis {
    Axis { title: title.to_owned(), scale, unit }
}

fn series(name: &str, points: impl IntoIterator<Item = (f64, f64)>) -> Series {
    Series { name: name.to_owned(), points: points.into_iter().collect() }
}

fn bar_series(name: &str, bars: &[(f64, f64, f64)]) -> BarSeries {
    let bar = |&(value, low, high): &(f64, f64, f64)| Bar { value, interval: Some((low, high)) };
    BarSeries { name: name.to_owned(), bars: bars.iter().map(bar).collect() }
}

fn section(title: &str, text: &str, chart: Chart) -> Section {
    let (title, text) = (title.to_owned(), Some(text.to_owned()));
    Section { title, text, table: None, chart: Some(chart) }
}

fn page(sections: Vec<Section>) -> Page {
    Page {
        title: "page".to_owned(),
        facts: vec![("name".to_owned(), "value".to_owned())],
        verdict: Some((Outcome::Passed, "all".to_owned())),
        warnings: vec!["doubtful".to_owned()],
        sections,
        json: json!({ "key": 1.5 }),
    }
}

fn latency(names: &[&str]) -> Chart {
    let tail = [0.0, 50.0, 75.0, 90.0, 95.0, 99.0, 99.5, 99.9, 99.95, 99.99, 100.0];
    let line = |(number, name): (usize, &&str)| {
        let factor = 1.0 + number as f64 * 0.35;
        let value = |at: usize| 90.0 * factor * (1.0 + (at as f64).powf(1.7 + factor * 0.12));
        series(name, tail.iter().enumerate().map(|(at, part)| (*part, value(at))))
    };
    Chart::Lines {
        x: axis("Percentile", Scale::Nines, Unit::Percent),
        y: axis("Latency", Scale::Log10, Unit::Microseconds),
        series: names.iter().enumerate().map(line).collect(),
    }
}

fn memory() -> Chart {
    let line = |name, fixed: f64, each: f64| {
        let counts = [1e3, 2e3, 5e3, 1e4, 2e4, 5e4, 1e5];
        series(name, counts.map(|count| (count, fixed + each * count)))
    };
    Chart::Lines {
        x: axis("Connections", Scale::Log10, Unit::Count),
        y: axis("Memory", Scale::Log10, Unit::Bytes),
        series: vec![line("user", 9e6, 1100.0), line("kernel", 4e6, 3900.0)],
    }
}

fn workers() -> Chart {
    let rates = [(1.0, 410e3), (2.0, 800e3), (4.0, 1.51e6), (8.0, 2.4e6)];
    Chart::Lines {
        x: axis("Workers", Scale::Linear, Unit::Count),
        y: axis("Deliveries per second", Scale::Linear, Unit::PerSecond),
        series: vec![
            series("measured", rates),
            series("proportional", rates.map(|(workers, _)| (workers, workers * 410e3))),
        ],
    }
}

fn over_time() -> Chart {
    let rate = |second: u32| {
        let wave = f64::from(second % 7) * 900.0;
        let dip = if (200..206).contains(&second) { 0.15 } else { 1.0 };
        (f64::from(second), (if second == 410 { f64::NAN } else { 98e3 + wave }) * dip)
    };
    Chart::Lines {
        x: axis("Time", Scale::Linear, Unit::Seconds),
        y: axis("Deliveries per second", Scale::Linear, Unit::PerSecond),
        series: vec![series("", (0..600).map(rate))],
    }
}

fn ratios(scale: Scale) -> Chart {
    Chart::Bars {
        y: axis("Throughput, times the other server's", scale, Unit::Ratio),
        labels: ["1,000 connections", "10,000 connections", "100,000 connections"]
            .map(str::to_owned)
            .to_vec(),
        series: vec![
            bar_series("p50", &[(1.32, 1.21, 1.4), (1.05, 0.94, 1.17), (0.81, 0.77, 0.9)]),
            bar_series("p99", &[(2.1, 1.7, 2.6), (1.6, 1.45, 1.75), (f64::NAN, 0.0, 0.0)]),
        ],
        reference: Some((1.0, "as much".to_owned())),
    }
}

fn sample() -> Page {
    let names = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta, 2nd run"];
    let rows = [["user", "1.1 KiB", "110 MiB"], ["kernel", "3.9 KiB", "390 MiB"]];
    let table = Table {
        head: ["Memory", "per connection", "in all"].map(str::to_owned).to_vec(),
        rows: rows.map(|row| row.map(str::to_owned).to_vec()).to_vec(),
    };
    let mut sections = vec![
        section("Latency", "From the publication to its arrival.", latency(&names)),
        section("Memory", "What connections that say nothing cost.", memory()),
        section("Scaling", "Throughput with more workers.", workers()),
        section("Deliveries over time", "The server was restarted at 200 s.", over_time()),
        section("Comparison", "Medians, with intervals of 90 %.", ratios(Scale::Linear)),
        section("Comparison by magnitude", "The same.", ratios(Scale::Log10)),
    ];
    sections[1].table = Some(table);
    let facts = [
        ("URL", "ws://127.0.0.1:8000/connection/websocket"),
        ("Date", "2031-05-04 12:30:00 UTC"),
        ("Machine", "8 processors, 32 GiB"),
        ("Kernel", "Linux 6.12.0"),
        (
            "Command",
            "corecast-bench fanout --connections 10000 --rate 50 --seconds 600 --report out",
        ),
    ];
    Page {
        title: "fanout: 10,000 connections".to_owned(),
        facts: facts.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
        warnings: vec!["A thread of the generator was 95 % busy.".to_owned()],
        ..page(sections)
    }
}

/// Parses `main`. It is written so that an XML parser reads it like a browser.
fn with_main<T>(page: &Page, read: impl FnOnce(Node) -> T) -> T {
    let html = page.html();
    let main = &html[html.find("<main>").unwrap()..html.find("</main>").unwrap() + 7];
    let document = Document::parse(main).unwrap_or_else(|error| panic!("{error} in {main}"));
    read(document.root_element())
}

fn with_chart<T>(chart: Chart, read: impl FnOnce(Node) -> T) -> T {
    with_main(&page(vec![section("section", "text", chart)]), read)
}

fn named<'a, 'b>(node: Node<'a, 'b>, name: &str) -> Vec<Node<'a, 'b>> {
    node.descendants().filter(|node| node.has_tag_name(name)).collect()
}

fn number(node: Node, name: &str) -> f64 {
    node.attribute(name).unwrap().parse().unwrap()
}

/// Returns the approximate place of a text in a picture: left, right, and its line.
fn place(text: Node) -> (f64, f64, f64) {
    let width = text.text().unwrap_or_default().chars().count() as f64 * axis::LETTER_PIXELS;
    let class = text.attribute("class").unwrap_or_default();
    let left = match class {
        class if class.contains("end") => width,
        class if class.contains("middle") => width / 2.0,
        _ => 0.0,
    };
    let left = number(text, "x") - left;
    (left, left + width, number(text, "y"))
}

/// Checks that pictures have finite numbers, and that texts neither overlap nor leave the picture.
fn check_pictures(main: Node) {
    for picture in named(main, "svg") {
        let size: Vec<f64> = picture
            .attribute("viewBox")
            .unwrap()
            .split(' ')
            .map(|part| part.parse().unwrap())
            .collect();
        for (node, attribute) in
            picture.descendants().flat_map(|node| node.attributes().map(move |one| (node, one)))
        {
            let value = attribute.value();
            assert!(!value.contains("NaN") && !value.contains("inf"), "{node:?}: {value}");
        }
        let places: Vec<_> =
            named(picture, "text").into_iter().map(|text| (place(text), text.text())).collect();
        for (number, ((left, right, line), text)) in places.iter().enumerate() {
            assert!(*left >= -8.0 && *right <= size[2] + 8.0, "{text:?} leaves {size:?}");
            assert!((0.0..=size[3]).contains(line), "{text:?} leaves {size:?}");
            for ((other_left, other_right, other_line), other) in &places[number + 1..] {
                let apart = right <= other_left || other_right <= left;
                assert!(apart || (line - other_line).abs() >= 13.0, "{text:?} touches {other:?}");
            }
        }
    }
}

#[test]
fn a_page_has_all_that_it_was_given() {
    let page = sample();
    with_main(&page, |main| {
        let text: String = main.descendants().filter_map(|node| node.text()).collect();
        let facts = page.facts.iter().flat_map(|(name, value)| [name, value]);
        for expected in facts.chain([&page.title]).chain(&page.warnings) {
            assert!(text.contains(expected), "{expected} is absent");
        }
        assert_eq!(named(main, "section").len(), page.sections.len());
        let json = named(main, "pre")[0].text().unwrap();
        assert_eq!(serde_json::from_str::<Value>(json).unwrap(), page.json);
        check_pictures(main);
    });
    // To view the page: CORECAST_PAGE=/tmp/page.html cargo test -p corecast-bench page
    if let Some(path) = std::env::var_os("CORECAST_PAGE") {
        std::fs::write(path, page.html()).unwrap();
    }
}

#[test]
fn how_it_ended_is_said_in_words() {
    for (outcome, expected) in [
        (Outcome::Passed, "Passed: why"),
        (Outcome::Failed, "Failed: why"),
        (Outcome::Interrupted, "Interrupted: why"),
    ] {
        let verdict = Some((outcome, "why".to_owned()));
        with_main(&Page { verdict, ..page(vec![]) }, |main| {
            assert_eq!(named(main, "p")[0].text(), Some(expected));
        });
    }
}

#[test]
fn a_page_asks_for_nothing() {
    let html = sample().html();
    for loader in ["<script", "<img", "<iframe", "src=", "url(", "@import", "href=\"http"] {
        assert!(!html.contains(loader), "{loader}");
    }
    assert!(html.contains("default-src 'none'"));
}

#[test]
fn hostile_texts_stay_texts() {
    let dressed = |text: &str| {
        let own = || text.to_owned();
        let named = |scale, unit| Axis { title: own(), scale, unit };
        let bars = Chart::Bars {
            y: named(Scale::Linear, Unit::Count),
            labels: vec![own()],
            series: vec![bar_series(text, &[(3.0, 2.0, 4.0)])],
            reference: Some((1.0, own())),
        };
        let lines = Chart::Lines {
            x: named(Scale::Linear, Unit::Count),
            y: named(Scale::Log10, Unit::Bytes),
            series: vec![series(text, [(1.0, 2.0)])],
        };
        let part = |chart| Section {
            title: own(),
            text: Some(own()),
            table: Some(Table { head: vec![own()], rows: vec![vec![own()]] }),
            chart: Some(chart),
        };
        Page {
            title: own(),
            facts: vec![(own(), own())],
            verdict: Some((Outcome::Failed, own())),
            warnings: vec![own()],
            sections: vec![part(bars), part(lines)],
            json: json!({ text: text }),
        }
    };
    let shape = |page: &Page| {
        with_main(page, |main| {
            check_pictures(main);
            let elements = main.descendants().filter(Node::is_element);
            let shape = |node: Node| {
                let attributes: Vec<_> =
                    node.attributes().map(|one| one.name().to_owned()).collect();
                (node.tag_name().name().to_owned(), attributes)
            };
            elements.map(shape).collect::<Vec<_>>()
        })
    };
    let hostile = dressed(HOSTILE);
    assert_eq!(shape(&hostile), shape(&dressed("harmless")));
    with_main(&hostile, |main| {
        let whole = main.descendants().filter(|node| node.is_text());
        let whole = whole.filter(|node| node.text() == Some(HOSTILE)).count();
        assert!(whole > 20, "only {whole} texts are as they were given");
    });
    let elements_of_head = |page: &Page| {
        let html = page.html();
        html[..html.find("<main>").unwrap()].matches('<').count()
    };
    assert_eq!(elements_of_head(&hostile), elements_of_head(&dressed("harmless")));
}

#[test]
fn eight_series_are_told_apart_without_colour() {
    let names = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"];
    with_chart(latency(&names), |main| {
        check_pictures(main);
        let legend: Vec<_> = named(main, "li")
            .into_iter()
            .filter(|item| item.attribute("class").is_some())
            .collect();
        assert_eq!(legend.len(), names.len());
        let look = |item: &Node| {
            let paths = named(*item, "path");
            let dash = paths[0].attribute("stroke-dasharray").unwrap().to_owned();
            (dash, paths[1].attribute("d").unwrap().to_owned())
        };
        let mut looks: Vec<_> = legend.iter().map(look).collect();
        looks.sort();
        looks.dedup();
        assert_eq!(looks.len(), names.len());
    });
}

#[test]
fn what_is_no_number_is_a_gap() {
    let (nan, inf) = (f64::NAN, f64::INFINITY);
    let points =
        [(0.0, 1.0), (1.0, 2.0), (2.0, nan), (3.0, 3.0), (4.0, inf), (5.0, 4.0), (nan, 5.0)];
    let chart = Chart::Lines {
        x: axis("x", Scale::Linear, Unit::Count),
        y: axis("y", Scale::Linear, Unit::Count),
        series: vec![series("gaps", points), series("empty", [])],
    };
    with_chart(chart, |main| {
        check_pictures(main);
        let wide =
            named(main, "svg").into_iter().find(|svg| svg.attribute("class") == Some("wide"));
        let lines: Vec<_> = named(wide.unwrap(), "path")
            .into_iter()
            .filter(|path| path.attribute("class") == Some("line"))
            .map(|path| path.attribute("d").unwrap())
            .collect();
        assert_eq!(lines[0].matches('M').count(), 3, "{}", lines[0]);
        assert_eq!(lines[1], "");
        let cells: Vec<_> = named(main, "td").iter().map(|cell| cell.text().unwrap()).collect();
        assert_eq!(cells[6..9], ["2", "–", "–"]);
    });
}

#[test]
fn charts_of_nothing_and_of_extremes_are_drawn() {
    let odd = [f64::NAN, f64::INFINITY, -f64::MAX, f64::MAX, 0.0, -1.0, 1e-300, 5.0];
    for scale in [Scale::Linear, Scale::Log10, Scale::Nines] {
        for unit in [Unit::Count, Unit::Bytes, Unit::Microseconds, Unit::Ratio] {
            for values in [&odd[..0], &odd[..1], &odd[4..5], &odd[7..], &odd[..]] {
                let axis = || axis("axis", scale, unit);
                let pairs = values.iter().flat_map(|x| values.iter().map(|y| (*x, *y)));
                let lines = Chart::Lines { x: axis(), y: axis(), series: vec![series("s", pairs)] };
                with_chart(lines, check_pictures);
                let bars: Vec<_> = values.iter().map(|value| (*value, *value, 7.0)).collect();
                let bars = Chart::Bars {
                    y: axis(),
                    labels: vec!["label".to_owned(); values.len() + 1],
                    series: vec![bar_series("s", &bars)],
                    reference: values.first().map(|value| (*value, "reference".to_owned())),
                };
                with_chart(bars, check_pictures);
            }
        }
    }
    let none = Chart::Bars {
        y: axis("y", Scale::Linear, Unit::Count),
        labels: vec![],
        series: vec![],
        reference: None,
    };
    with_chart(none, |main| {
        check_pictures(main);
        assert_eq!(named(main, "p").last().unwrap().text(), Some("There is nothing to draw."));
    });
}

#[test]
fn every_number_of_a_chart_is_in_its_table() {
    with_chart(ratios(Scale::Linear), |main| {
        let cells: Vec<_> = named(main, "td").iter().map(|cell| cell.text().unwrap()).collect();
        assert_eq!(
            cells[..3],
            ["1,000 connections", "1.32× (1.21× – 1.40×)", "2.10× (1.70× – 2.60×)"]
        );
        assert_eq!(cells[8], "–", "bounds without a value say nothing");
        let description = named(main, "desc")[0].text().unwrap();
        assert!(
            description.ends_with("p50: 0.81× to 1.32×. p99: 1.60× to 2.10×."),
            "{description}"
        );
    });
    with_chart(memory(), |main| {
        assert_eq!(named(main, "tr").len(), 1 + 7);
        let head: Vec<_> = named(main, "th").iter().map(|cell| cell.text().unwrap()).collect();
        assert_eq!(head, ["Connections", "user", "kernel"]);
    });
}

#[test]
fn a_long_series_keeps_its_dip() {
    let dip = |at: u32| (f64::from(at), if at == 77_777 { 3.0 } else { 1000.0 });
    let chart = Chart::Lines {
        x: axis("x", Scale::Linear, Unit::Seconds),
        y: axis("y", Scale::Linear, Unit::Count),
        series: vec![series("", (0..100_000).map(dip))],
    };
    with_chart(chart, |main| {
        let rows: Vec<_> = named(main, "tr")
            .iter()
            .map(|row| {
                named(*row, "td").iter().map(|cell| cell.text().unwrap()).collect::<Vec<_>>()
            })
            .collect();
        assert!(rows.len() <= POINTS_MAX + 1, "{} rows", rows.len());
        assert!(rows.contains(&vec!["77777 s", "3"]), "the dip is lost");
        check_pictures(main);
    });
}
