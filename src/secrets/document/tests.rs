use super::*;
use proptest::prelude::*;

fn parse(text: &str) -> (EnvDocument, Diagnostics) {
    EnvDocument::parse(Path::new("credentials/x.env"), text.as_bytes())
}

#[test]
fn the_three_ways_to_write_a_value() {
    let (document, problems) =
        parse("# c\nA_A=plain/1=\n\nB_B='a \"$`\\ b'\nC_C=\"it's\"\nD_D=''\n");
    assert_eq!(problems.count(crate::diag::Severity::Error), 0);
    let values: Vec<(&str, &str)> = document
        .entries()
        .iter()
        .map(|entry| (entry.name.as_str(), entry.value.expose().as_str()))
        .collect();
    assert_eq!(values, [("A_A", "plain/1="), ("B_B", "a \"$`\\ b"), ("C_C", "it's")]);
}

#[test]
fn setting_a_value_keeps_the_other_lines_and_fills_an_empty_one() {
    let (document, _) = parse("# one\nA_A=x1\nB_B=\n# two");
    let set = |name: &str, value: &str| {
        document.with_value(name, &Secret::new(value.into())).unwrap().expose().clone()
    };
    assert_eq!(set("A_A", "y z"), "# one\nA_A='y z'\nB_B=\n# two");
    assert_eq!(set("B_B", "y"), "# one\nA_A=x1\nB_B=y\n# two");
    assert_eq!(set("C_C", "y"), "# one\nA_A=x1\nB_B=\n# two\nC_C=y\n");
    assert!(document.with_value("A_A", &Secret::new("'\"".into())).is_none());
}

proptest! {
    #[test]
    fn what_is_written_is_read_again(value in "[ -~é]{1,40}", other in "[A-Za-z0-9]{6,20}") {
        let before = format!("A_A={other}\nB_B=x\n");
        let (document, _) = parse(&before);
        match document.with_value("B_B", &Secret::new(value.clone())) {
            Some(text) => {
                let (again, problems) = parse(text.expose());
                prop_assert!(problems.is_empty());
                prop_assert_eq!(again.get("B_B").unwrap().expose(), &value);
                prop_assert_eq!(again.get("A_A").unwrap().expose(), &other);
            }
            None => prop_assert!(value.contains('\'') && value.contains(['"', '$', '`', '\\'])),
        }
    }

    #[test]
    fn no_input_panics_and_no_diagnostic_shows_what_follows_an_equals_sign(
        bytes in proptest::collection::vec(any::<u8>(), 0..200)
    ) {
        let (_, problems) = EnvDocument::parse(Path::new("x.env"), &bytes);
        let _ = crate::diag::Renderer::new(false).all(&problems);
    }

    #[test]
    fn no_mistake_shows_the_value(
        before in prop::sample::select(vec![
            "", "export ", " ", "redis_", "1", "#", "\u{feff}", "NAME_A=x\n",
        ]),
        name in prop::sample::select(vec!["NAME_A=", "NAME_A =", "NAME_A= ", "name=", "", "="]),
        open in prop::sample::select(vec!["", "'", "\"", "$(", "`"]),
        value in "[a-z0-9]{4}[a-z0-9;&|<>()*?~!\\\\$ ]{0,8}[a-z0-9]{6}",
        after in prop::sample::select(vec!["", "'", "\"", " ", " # c", "\r", "\n", "\0"]),
    ) {
        let (document, problems) = parse(&format!("{before}{name}{open}{value}{after}"));
        let mut text = crate::diag::Renderer::new(false).all(&problems);
        text.push_str(&crate::diag::Renderer::new(false).all(&document.check(&[])));
        text.push_str(&format!("{problems:?}{document:?}"));
        prop_assert!(!text.contains(&value), "{}", text);
        prop_assert!(!text.contains(&value[value.len() - 6..]), "{}", text);
    }
}
