//! What the user wants left float, by node name.

/// Node names and patterns that must stay float.
#[derive(Clone, Debug, Default)]
pub struct Exclude {
    rules: Vec<ExcludeRule>,
}

/// One `--exclude`.
#[derive(Clone, Debug)]
pub enum ExcludeRule {
    /// The node with just this name.
    Name(String),
    /// Nodes whose name the expression matches somewhere.
    Pattern(regex::Regex),
}

impl ExcludeRule {
    /// Whether a node of this name is meant.
    pub fn matches(&self, name: &str) -> bool {
        match self {
            Self::Name(own) => own == name,
            Self::Pattern(pattern) => pattern.is_match(name),
        }
    }
}

impl Exclude {
    /// Rules, any of which excludes.
    pub fn new(rules: Vec<ExcludeRule>) -> Self {
        Self { rules }
    }

    /// Whether a node of this name must stay float.
    pub fn matches(&self, name: &str) -> bool {
        self.rules.iter().any(|rule| rule.matches(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_whole_and_a_pattern_is_found_anywhere() {
        let exclude = Exclude::new(vec![
            ExcludeRule::Name("/head/MatMul".to_owned()),
            ExcludeRule::Pattern(regex::Regex::new("blocks\\.(0|11)/").expect("a pattern")),
        ]);
        for (name, excluded) in [
            ("/head/MatMul", true),
            ("/head/MatMul_1", false),
            ("head/MatMul", false),
            ("/blocks.11/fc1", true),
            ("/blocks.1/fc1", false),
        ] {
            assert_eq!(exclude.matches(name), excluded, "{name}");
        }
        assert!(!Exclude::default().matches(""));
    }
}
