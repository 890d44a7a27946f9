use crate::support::{World, error, ok};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn a_chart_of_a_csv_file_lands_in_the_workspace() {
    let world = World::new();
    let csv = "day,visits,orders\n2026-01-01,10,1\n2026-01-02,20,\n2026-01-03,15,3\n";
    let first = world.call(0, "files", json!({"action": "write", "path": "d/in.csv", "text": csv}), None).await;
    let arguments = json!({"kind": "line", "path": "charts/visits.png", "title": "Visits", "width": 320, "height": 240,
        "csv": {"path": "d/in.csv", "x": "day", "y": ["visits", "orders"]}});
    let drawn = world.call(1, "chart", arguments, first.workspace).await;
    assert_eq!(
        ok(&drawn),
        "drew a line chart of 2 series with 5 values from 1 to 20; 1 cells were empty into charts/visits.png and charts/visits.svg"
    );
    assert_eq!(drawn.workspace.unwrap().turn, 1);
    let found = world
        .call(2, "files", json!({"action": "search", "pattern": "<svg width=\"320\"", "path": "charts"}), drawn.workspace)
        .await;
    assert!(ok(&found).starts_with("charts/visits.svg:1:"), "{}", ok(&found));
}

#[tokio::test(flavor = "multi_thread")]
async fn data_that_cannot_be_drawn_is_said_with_a_code() {
    let world = World::new();
    let csv = "name,value\na,1\nb,two\n";
    let workspace = world.call(0, "files", json!({"action": "write", "path": "in.csv", "text": csv}), None).await.workspace;
    let cases = [
        ("in.csv", "name", "value", "csv_unreadable", "row 2 of column \"value\" holds \"two\""),
        ("in.csv", "name", "wert", "csv_column_unknown", "it has name, value"),
        ("none.csv", "name", "value", "sandbox_not_found", "none.csv"),
        ("../in.csv", "name", "value", "sandbox_path_refused", "climbs"),
    ];
    for (index, (path, x, y, code, text)) in (1..).zip(cases) {
        let arguments = json!({"kind": "bar", "path": "a", "csv": {"path": path, "x": x, "y": [y]}});
        let reply = world.call(index, "chart", arguments, workspace).await;
        assert_eq!(error(&reply).0, code, "{path} {y}");
        assert!(error(&reply).1.contains(text), "{}", error(&reply).1);
        assert_eq!(reply.workspace, None);
    }
    let climbing = json!({"kind": "pie", "path": "../a", "x": ["a"], "series": [{"y": [1]}], "width": 320, "height": 240});
    assert_eq!(error(&world.call(9, "chart", climbing, workspace).await).0, "sandbox_path_refused");
}
