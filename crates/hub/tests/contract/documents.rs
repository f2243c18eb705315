//! What the documents tell people to write into files is what those who read the files understand.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::Path;

use serde::Deserialize;
use serde_json::{Value, json};
use yurt_api::proto;
use yurt_api::resource::TypeMeta;
use yurt_hub::config::{Asked, Flags};

/// The YAML blocks of a document, without the indentation of the list that they stand in.
fn blocks(document: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(document);
    let text = std::fs::read_to_string(path).unwrap();
    let (mut found, mut open): (Vec<String>, Option<usize>) = (Vec::new(), None);
    for line in text.lines() {
        match (open, line.trim_start()) {
            (None, "```yaml") => {
                open = Some(line.len() - "```yaml".len());
                found.push(String::new());
            }
            (Some(_), "```") => open = None,
            (Some(indent), _) => {
                let block = found.last_mut().unwrap();
                block.push_str(line.get(indent..).unwrap_or_default());
                block.push('\n');
            }
            _ => {}
        }
    }
    assert!(open.is_none(), "{document} ends in a block");
    found
}

fn yaml(text: &str) -> Value {
    serde_saphyr::from_str(text).unwrap_or_else(|e| panic!("{e}\n{text}"))
}

/// `k8s.io/client-go/tools/clientcmd/api/v1/types.go`, as far as the documents use it.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Kubeconfig {
    #[serde(rename = "apiVersion")]
    api_version: String,
    kind: String,
    clusters: Vec<NamedCluster>,
    users: Vec<NamedUser>,
    contexts: Vec<NamedContext>,
    current_context: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NamedCluster {
    name: String,
    cluster: Cluster,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Cluster {
    server: String,
    certificate_authority: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NamedUser {
    name: String,
    user: User,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct User {
    #[serde(rename = "tokenFile")]
    token_file: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NamedContext {
    name: String,
    context: Context,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Context {
    cluster: String,
    user: String,
}

fn check_cluster(cluster: &Cluster) {
    assert!(cluster.server.starts_with("https://127.0.0.1:10268"), "{}", cluster.server);
    assert!(cluster.certificate_authority.starts_with('/'), "{}", cluster.certificate_authority);
}

fn check_kubeconfig(text: &str) {
    let config: Kubeconfig = serde_saphyr::from_str(text).unwrap_or_else(|e| panic!("{e}\n{text}"));
    assert_eq!((config.api_version.as_str(), config.kind.as_str()), ("v1", "Config"));
    let [NamedContext { name, context }] = &config.contexts[..] else { panic!("one context") };
    assert_eq!(*name, config.current_context);
    assert!(config.clusters.iter().any(|c| c.name == context.cluster));
    assert!(config.users.iter().any(|u| u.name == context.user && u.user.token_file.starts_with('/')));
    config.clusters.iter().for_each(|c| check_cluster(&c.cluster));
}

/// Everything of `part` stands in `whole`, too.
fn is_within(part: &Value, whole: &Value) -> bool {
    match (part, whole) {
        (Value::Object(part), Value::Object(whole)) => {
            part.iter().all(|(name, value)| whole.get(name).is_some_and(|w| is_within(value, w)))
        }
        (Value::Array(part), Value::Array(whole)) => {
            part.len() == whole.len() && part.iter().zip(whole).all(|(p, w)| is_within(p, w))
        }
        _ => part == whole,
    }
}

/// A part of a pod: all its fields are the API's, and what it mounts is there.
fn check_pod(part: &Value) {
    let mut pod = part.clone();
    (pod["apiVersion"], pod["kind"], pod["metadata"]) = (json!("v1"), json!("Pod"), json!({"name": "p"}));
    let kind = TypeMeta::new("v1", "Pod");
    // A field that the kind does not have is lost on the way.
    let message = proto::from_json(&kind, pod.to_string().as_bytes()).unwrap();
    let back: Value = serde_json::from_slice(&proto::to_json(&kind, &message).unwrap()).unwrap();
    assert!(is_within(&pod, &back), "{pod:#}\nis understood as\n{back:#}");
    let names = |list: &Value| -> BTreeSet<String> {
        let all = list.as_array().unwrap().iter();
        all.map(|v| v["name"].as_str().unwrap().to_owned()).collect()
    };
    let volumes = names(&pod["spec"]["volumes"]);
    for container in pod["spec"]["containers"].as_array().unwrap() {
        assert_eq!(names(&container["volumeMounts"]), volumes);
        let mounts = container["volumeMounts"].as_array().unwrap();
        for env in container["env"].as_array().unwrap() {
            let value = env["value"].as_str().expect("a text: YAML has numbers, too");
            let is_mounted = mounts.iter().any(|m| value.starts_with(m["mountPath"].as_str().unwrap()));
            assert!(!value.starts_with('/') || is_mounted, "{value} is nowhere");
        }
    }
}

/// Settings of the hub: it takes them.
fn check_settings(text: &str) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("yurthub.yaml");
    std::fs::write(&file, text).unwrap();
    let mut args: Vec<OsString> = vec!["yurthub".into(), "--config".into(), file.into()];
    args.extend(["--server-addr=https://10.0.0.10:6443", "--node-name=edge-1"].map(OsString::from));
    let Ok(Asked::Run(flags)) = Flags::read(args) else { panic!("flags") };
    flags.resolve().unwrap_or_else(|e| panic!("{e}\n{text}"));
}

#[test]
fn manifests_of_the_documents_are_what_they_seem() {
    let (mut pods, mut kubeconfigs, mut settings) = (0, 0, 0);
    for document in ["README.md", "docs/clients.md"] {
        for block in blocks(document) {
            let value = yaml(&block);
            match &value {
                v if v["kind"] == "Config" => {
                    kubeconfigs += 1;
                    check_kubeconfig(&block);
                }
                v if v["spec"].is_object() => {
                    pods += 1;
                    check_pod(v);
                }
                v if v["certificate-authority"].is_string() => {
                    check_cluster(&serde_saphyr::from_str(&block).unwrap());
                }
                _ => {
                    settings += 1;
                    check_settings(&block);
                }
            }
        }
    }
    assert_eq!((kubeconfigs, pods, settings), (1, 2, 2), "a block of another kind needs a check");
}

/// The check of pods finds what it is there for.
#[test]
#[should_panic(expected = "is understood as")]
fn a_field_that_does_not_exist_is_found() {
    check_pod(&json!({"spec": {"containers": [{"name": "a", "volumeMount": []}], "volumes": []}}));
}
