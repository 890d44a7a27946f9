use super::{Chart, Drawn};
use serde_json::{Value, json};

fn chart(value: Value) -> Chart {
    serde_json::from_value(value).unwrap()
}

fn drawn(value: Value, csv: Option<&str>) -> Drawn {
    let chart = chart(value);
    chart.check().unwrap();
    chart.draw(csv.map(str::as_bytes)).unwrap()
}

/// Leaves the pictures where `ERRAND_CHART_SAMPLES` says, for looking at them.
fn keep(name: &str, drawn: &Drawn) {
    if let Ok(folder) = std::env::var("ERRAND_CHART_SAMPLES") {
        std::fs::write(format!("{folder}/{name}.png"), &drawn.files[0].1).unwrap();
        std::fs::write(format!("{folder}/{name}.svg"), &drawn.files[1].1).unwrap();
    }
}

#[test]
fn samples() {
    let d = drawn(
        json!({"kind": "bar", "path": "a.png", "title": "Revenue by quarter", "y_label": "Revenue (EUR)", "x_label": "Quarter",
        "x": ["Q1", "Q2", "Q3", "Q4"], "series": [{"y": [12500, 15300.5, 9800, 21000]}]}),
        None,
    );
    keep("bar", &d);
    let d = drawn(
        json!({"kind": "bar", "path": "a.png", "title": "Mean flipper length by species and island, a long title that needs to be wrapped because it does not fit on one line at all", "y_label": "mm",
        "x": ["Adélie penguins of Torgersen", "Gentoo penguins of Biscoe", "Chinstrap penguins", "Others & unknown ones", "Emperors", "Kings", "Macaronis of the South", "Rockhoppers <b>"], "series": [{"name": "female", "y": [-188, 212, 191, 20, 30, 40, 50, 60]}, {"name": "male", "y": [192, 221, 199, -20, 10, 60, 80, 90]}]}),
        None,
    );
    keep("bars", &d);
    let days: Vec<String> = (0..365).map(|n| format!("2025-{:02}-{:02}", n / 31 + 1, (n % 31).min(27) + 1)).collect();
    let y: Vec<f64> = (0..365)
        .map(|n| 1_200_000.0 + 400_000.0 * (f64::from(n) / 58.0).sin() + f64::from((n * 7919) % 97) * 2000.0)
        .collect();
    let z: Vec<f64> = y.iter().map(|y| y * 0.7 + 100_000.0).collect();
    let d = drawn(
        json!({"kind": "line", "path": "a", "title": "Visits per day", "y_label": "Visits", "x": days, "series": [{"name": "Europe", "y": y}, {"name": "Asia", "y": z}]}),
        None,
    );
    keep("line", &d);
    let d = drawn(
        json!({"kind": "line", "path": "a", "title": "Few points", "x": [2019, 2020, 2021, 2022, 2023], "series": [{"name": "alpha", "y": [1, 3, 2, 5, 4]}, {"name": "beta", "y": [2, 2.5, 3, 3.5, 4.5]}, {"name": "gamma", "y": [5, 4, 3.5, 3, 2]}, {"name": "delta", "y": [0.5, 0.7, 1.1, 1.2, 2.9]}]}),
        None,
    );
    keep("few", &d);
    let x: Vec<f64> = (0..300).map(|n| f64::from((n * 37) % 101) / 10.0).collect();
    let y: Vec<f64> = (0..300).map(|n| f64::from((n * 53) % 89) / 1000.0 + f64::from((n * 37) % 101) / 900.0).collect();
    let d = drawn(
        json!({"kind": "scatter", "path": "a", "title": "Size and weight", "x_label": "Size (cm)", "y_label": "Weight (kg)", "x": x, "series": [{"y": y}]}),
        None,
    );
    keep("scatter", &d);
    let d = drawn(
        json!({"kind": "pie", "path": "a", "title": "Where the money goes", "x": ["Rent", "Food", "Transport", "Insurance", "Savings", "Books", "Tiny one", "Tiny two", "Tiny three"], "series": [{"y": [900, 450, 120, 210, 300, 35, 5, 6, 7]}]}),
        None,
    );
    keep("pie", &d);
    let values: Vec<f64> = (0..5000)
        .map(|n| (0..6).map(|k| f64::from((n * (7 + k * 13) + n * n % 331) % 1000) / 1000.0).sum::<f64>() * 10.0)
        .collect();
    let d = drawn(
        json!({"kind": "histogram", "path": "a", "title": "Response times", "x_label": "ms", "y_label": "Requests", "series": [{"y": values}]}),
        None,
    );
    keep("histogram", &d);
}
