//! A dashboard's file, as Grafana reads it.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

/// Panels we use, each with the options that its plugin has no sensible default for.
const PLUGINS: [(&str, &[&str]); 6] = [
    ("stat", &["colorMode", "graphMode", "reduceOptions", "textMode"]),
    ("timeseries", &["legend", "tooltip"]),
    ("table", &["showHeader", "cellHeight", "sortBy"]),
    ("heatmap", &["calculate", "color", "yAxis"]),
    ("state-timeline", &["mergeValues", "showValue"]),
    ("row", &[]),
];

/// Units that Grafana knows under these names.
const UNITS: [&str; 10] =
    ["none", "short", "s", "percentunit", "bytes", "Bps", "cps", "reqps", "dateTimeFromNow", "dateTimeAsIso"];

/// Variables that Grafana itself brings.
const BUILT_IN: [&str; 7] =
    ["__rate_interval", "__interval", "__timeFilter", "__timeGroupAlias", "__value", "__url_time_range", "__all"];

pub struct Board {
    pub name: String,
    pub json: Value,
}

/// A query of a panel, in PromQL or SQL.
pub struct Expression {
    pub panel: String,
    pub text: String,
    pub format: String,
}

/// All dashboards, by name.
pub fn boards() -> Vec<Board> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("dashboards");
    let mut found: Vec<Board> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|kind| kind == "json"))
        .map(|path| Board {
            name: path.file_name().unwrap().to_string_lossy().into_owned(),
            json: serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap(),
        })
        .collect();
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

impl Board {
    pub fn panels(&self) -> impl Iterator<Item = &Value> {
        list(&self.json["panels"]).iter()
    }

    fn variables(&self) -> impl Iterator<Item = &Value> {
        list(&self.json["templating"]["list"]).iter()
    }

    /// The kind of data source that it reads.
    pub fn plugin(&self) -> &str {
        let source = self.variables().find(|variable| variable["type"] == "datasource").unwrap();
        source["query"].as_str().unwrap()
    }

    pub fn expressions(&self) -> Vec<Expression> {
        let mut found = vec![];
        for panel in self.panels() {
            for target in list(&panel["targets"]) {
                let text = target["expr"].as_str().or(target["rawSql"].as_str()).unwrap_or_default().to_owned();
                let format = target["format"].as_str().unwrap_or_default().to_owned();
                let panel = format!("{} {}", text_of(panel, "title"), text_of(target, "refId"));
                found.push(Expression { panel, text, format });
            }
        }
        found
    }

    /// What fills its variables.
    pub fn variable_queries(&self) -> impl Iterator<Item = String> {
        self.variables().filter(|v| v["type"] == "query").map(|v| text_of(v, "definition").to_owned())
    }

    /// Every text in it.
    pub fn strings(&self) -> Vec<&str> {
        let mut found = vec![];
        let mut open = vec![&self.json];
        while let Some(value) = open.pop() {
            match value {
                Value::String(text) => found.push(text.as_str()),
                Value::Array(values) => open.extend(values),
                Value::Object(fields) => open.extend(fields.values()),
                _ => {}
            }
        }
        found
    }

    /// What Grafana would stumble over, or people.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = vec![];
        let mut must = |holds: bool, what: &str| {
            if !holds {
                problems.push(format!("{}: {what}", self.name));
            }
        };
        let json = &self.json;
        must(json["id"].is_null(), "id: Grafana gives it");
        must(json["schemaVersion"].as_i64().is_some_and(|version| (36..=42).contains(&version)), "schemaVersion");
        for text in ["title", "description", "timezone", "refresh"] {
            must(!text_of(json, text).is_empty(), text);
        }
        must(json["time"]["from"].is_string() && json["time"]["to"] == "now", "time");
        must(json["graphTooltip"].is_i64() && json["editable"].is_boolean(), "graphTooltip, editable");
        must(list(&json["tags"]).iter().any(|tag| tag == "watchbell"), "tags");
        must(list(&json["annotations"]["list"]).iter().any(|a| a["builtIn"] == 1), "annotations");
        for link in list(&json["links"]) {
            let whole = ["title", "url", "icon", "tooltip"].iter().all(|field| link[*field].is_string());
            must(whole && link["type"] == "link" && link["tags"].is_array(), &format!("link {link}"));
        }

        let mut names: BTreeSet<&str> = BTreeSet::new();
        for variable in self.variables() {
            let name = text_of(variable, "name");
            must(names.insert(name), &format!("variable {name} twice"));
            let is_whole = ["label", "description"].iter().all(|field| !text_of(variable, field).is_empty());
            must(is_whole && variable["hide"].is_i64() && variable["refresh"].is_i64(), &format!("variable {name}"));
            let is_query = variable["type"] == "query" && variable["datasource"]["uid"] == "${datasource}";
            must(is_query || variable["type"] == "datasource", &format!("variable {name}: type"));
        }
        must(names.contains("datasource"), "no variable for the data source");
        let known = |name: &String| names.contains(name.as_str()) || BUILT_IN.contains(&name.as_str());
        for text in self.strings() {
            let unknown: Vec<_> = variables_in(text).into_iter().filter(|name| !known(name)).collect();
            must(unknown.is_empty(), &format!("unknown variables {unknown:?} in {text}"));
        }

        let mut ids = BTreeSet::new();
        let mut cells = BTreeSet::new();
        for panel in self.panels() {
            let title = text_of(panel, "title");
            must(panel["id"].as_u64().is_some_and(|id| id > 0 && ids.insert(id)), &format!("{title}: id"));
            let cell = |field: &str| panel["gridPos"][field].as_u64().unwrap_or(u64::MAX);
            let (x, y, w, h) = (cell("x"), cell("y"), cell("w"), cell("h"));
            let fits = x < 24 && w <= 24 && x + w <= 24 && w > 0 && y < 1000 && h > 0 && h < 100;
            must(fits, &format!("{title}: gridPos"));
            if fits {
                let free = (y..y + h).all(|y| (x..x + w).all(|x| cells.insert((x, y))));
                must(free, &format!("{title}: overlaps another panel"));
            }
            for problem in panel_problems(panel, self.plugin()) {
                must(false, &format!("{title}: {problem}"));
            }
        }
        problems
    }
}

fn panel_problems(panel: &Value, plugin: &str) -> Vec<String> {
    let mut problems = vec![];
    let mut must = |holds: bool, what: &str| {
        if !holds {
            problems.push(what.to_owned());
        }
    };
    let Some((_, options)) = PLUGINS.iter().find(|(name, _)| panel["type"] == *name) else {
        return vec![format!("type {}", panel["type"])];
    };
    must(!text_of(panel, "title").is_empty(), "no title");
    if panel["type"] == "row" {
        must(panel["collapsed"] == false && list(&panel["panels"]).is_empty(), "an open row has no panels of its own");
        return problems;
    }
    must(text_of(panel, "description").ends_with('.'), "description");
    must(panel["datasource"]["uid"] == "${datasource}" && panel["datasource"]["type"] == plugin, "datasource");
    must(options.iter().all(|option| !panel["options"][*option].is_null()), "options");
    let mut letters = BTreeSet::new();
    for target in list(&panel["targets"]) {
        must(letters.insert(text_of(target, "refId")), "refId");
        must(target["datasource"] == panel["datasource"], "datasource of a target");
        let is_promql = target["expr"].is_string() && target["instant"] != target["range"];
        let is_sql = target["rawSql"].is_string() && target["rawQuery"] == true;
        must(if plugin == "prometheus" { is_promql } else { is_sql }, "target");
        // a legend is what tells several lines apart
        let is_told = target["legendFormat"].is_string() || plugin != "prometheus";
        must(is_told || ["stat", "table"].contains(&text_of(panel, "type")), "legendFormat");
        must(panel["type"] != "table" || target["format"] == "table", "format of a table");
    }
    must(!letters.is_empty(), "targets");
    let defaults = &panel["fieldConfig"]["defaults"];
    must(UNITS.contains(&text_of(defaults, "unit")), "unit");
    if panel["type"] != "heatmap" {
        must(is_ladder(&defaults["thresholds"]), "thresholds");
    }
    for rule in list(&panel["fieldConfig"]["overrides"]) {
        must(rule["matcher"]["id"] == "byName" && rule["matcher"]["options"].is_string(), "matcher of an override");
        for property in list(&rule["properties"]) {
            let value = &property["value"];
            must(property["id"].is_string() && !value.is_null(), "property of an override");
            must(property["id"] != "unit" || value.as_str().is_some_and(|unit| UNITS.contains(&unit)), "its unit");
            must(property["id"] != "thresholds" || is_ladder(value), "its thresholds");
        }
    }
    for link in list(&panel["links"]) {
        must(link["title"].is_string() && link["url"].as_str().is_some_and(|url| url.contains('/')), "links");
    }
    problems
}

/// A first step without a value, then rising ones.
fn is_ladder(thresholds: &Value) -> bool {
    let steps = list(&thresholds["steps"]);
    let values: Vec<f64> = steps.iter().skip(1).filter_map(|step| step["value"].as_f64()).collect();
    thresholds["mode"] == "absolute"
        && steps.first().is_some_and(|step| step["value"].is_null())
        && values.len() + 1 == steps.len()
        && values.is_sorted()
        && steps.iter().all(|step| step["color"].is_string())
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text_of<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}

/// `$name` and `${name:format}`.
fn variables_in(text: &str) -> Vec<String> {
    let named = text.split('$').skip(1).map(|rest| rest.trim_start_matches('{'));
    let name = |rest: &str| rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    named.map(name).filter(|name| !name.is_empty()).collect()
}

/// The metrics of an expression, each with the labels that it is chosen by.
pub fn metric_names(text: &str) -> Vec<(String, Vec<String>)> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let mut found = vec![];
    let mut rest = text;
    while let Some(from) = rest.find(is_part) {
        let length = rest[from..].find(|c| !is_part(c)).unwrap_or(rest.len() - from);
        let name = &rest[from..from + length];
        rest = &rest[from + length..];
        let mut labels = vec![];
        if let Some(chosen) = rest.strip_prefix('{').filter(|_| !name.is_empty()) {
            let (inside, after) = chosen.split_once('}').unwrap_or((chosen, ""));
            // no value of ours has a comma in it
            let names = inside.split(',').filter_map(|one| one.split_once(['=', '!']));
            labels = names.map(|(label, _)| label.trim().to_owned()).collect();
            rest = after;
        }
        if name.starts_with("watchbell_") || name.starts_with("watchbell:") || name == "ALERTS" {
            found.push((name.to_owned(), labels));
        }
    }
    found
}
