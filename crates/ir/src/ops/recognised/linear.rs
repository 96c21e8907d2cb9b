//! Linear: `x W + bias` with a weight of rank 2; what a Gemm or a MatMul, with or without an Add, computes.
//!
//! It remembers what it was made from, names included, and expands to just that.

use crate::graph::Graph;
use crate::op::{Attribute, AttributeValue, Op, OpId, RECOGNISED};
use crate::ops::attributes::{float_or, optional_input};
use crate::ops::gemm::Gemm;
use crate::ops::mat_mul::MatMul;
use crate::patch::Output;
use crate::types::Carried;
use crate::value::ValueId;

use super::{STANDARD, node_of, recognised, stand_in};
use crate::ops::expansion::Expansion;

/// Attributes that say what a Linear was made from.
const OWN: [&str; 6] = [FORM, PRODUCT, PRODUCT_NODE, PRODUCT_DOMAIN, PRODUCT_ORDER, BIAS_FIRST];
const FORM: &str = "form";
/// The name of the product's value; carries what rode along with the MatMul.
const PRODUCT: &str = "product";
const PRODUCT_NODE: &str = "product_node";
const PRODUCT_DOMAIN: &str = "product_domain";
const PRODUCT_ORDER: &str = "product_order";
const BIAS_FIRST: &str = "bias_first";

/// Which operand of the Add is the bias.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BiasOrder {
    /// The first.
    BiasFirst,
    /// The second.
    ProductFirst,
}

/// The MatMul in front of an Add that became one Linear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddedBias {
    /// The MatMul's node name.
    pub node: String,
    /// The MatMul's domain as written.
    pub domain: String,
    /// The name of the value between the two.
    pub product: String,
    /// Which operand of the Add is the bias.
    pub order: BiasOrder,
    /// Where the MatMul stood in the file.
    pub order_key: u64,
    /// What rode along with the MatMul.
    pub carried: Carried,
}

/// What a Linear was made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Form {
    /// A Gemm with alpha and beta 1 that does not transpose x.
    Gemm,
    /// A MatMul, with the Add behind it if there was one.
    MatMul(Option<AddedBias>),
}

/// A recognised Linear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Linear {
    /// The operator.
    pub op: OpId,
    /// `[..., K]`; of rank 2 in the form Gemm.
    pub x: ValueId,
    /// `[K, N]`, or `[N, K]` where `trans_b`.
    pub weight: ValueId,
    /// `[N]`
    pub bias: Option<ValueId>,
    /// The output, `[..., N]`.
    pub output: ValueId,
    /// Whether the weight's first axis is that of the outputs.
    pub trans_b: bool,
    /// What it was made from.
    pub form: Form,
}

impl Linear {
    /// The slot of the weight.
    pub const WEIGHT: usize = 1;
    /// The slot of the bias.
    pub const BIAS: usize = 2;

    /// The view; `None` where this is no Linear.
    pub fn at(graph: &Graph, id: OpId) -> Option<Self> {
        let op = recognised(graph, id, "Linear")?;
        let form = match op.text(FORM)? {
            "Gemm" => Form::Gemm,
            "MatMul" => Form::MatMul(added_bias(op)),
            _ => return None,
        };
        let sound = float_or(op, "alpha", 1.0) == Some(1.0) && float_or(op, "beta", 1.0) == Some(1.0);
        sound.then_some(Self {
            op: id,
            x: graph.input(id, 0)?,
            weight: graph.input(id, Self::WEIGHT)?,
            bias: optional_input(graph, id, Self::BIAS),
            output: graph.output(id, 0)?,
            trans_b: op.int("transB").unwrap_or(0) != 0,
            form,
        })
    }

    /// The axis of the weight along which a product sums.
    pub fn input_axis(&self) -> usize {
        usize::from(self.trans_b)
    }

    /// The axis of the weight that has one entry per output channel.
    pub fn output_axis(&self) -> usize {
        usize::from(!self.trans_b)
    }

    /// A Linear with a weight `[K, N]`; reads x, weight and, where there is one, bias.
    pub fn op() -> Op {
        Op::new(RECOGNISED, "Linear", vec![Attribute::string(FORM, "MatMul")])
    }

    /// What stands for a Gemm that does not transpose its first input.
    ///
    /// It reads what the Gemm reads; factors other than 1 are gone, so the caller puts alpha into the weight and beta
    /// into the bias.
    pub fn of_gemm(graph: &Graph, id: OpId) -> Option<Op> {
        let gemm = Gemm::at(graph, id)?;
        if gemm.trans_a {
            return None;
        }
        let mut op = with_form(stand_in(graph.op(id), "Linear"), "Gemm");
        let stale = |name: &str| (name == "alpha" && gemm.alpha != 1.0) || (name == "beta" && gemm.beta != 1.0);
        op.attributes.retain(|attribute| !stale(&attribute.name));
        Some(op)
    }

    /// What stands for a MatMul; same inputs.
    pub fn of_mat_mul(graph: &Graph, id: OpId) -> Option<Op> {
        MatMul::at(graph, id)?;
        Some(with_form(stand_in(graph.op(id), "Linear"), "MatMul"))
    }

    /// The attributes of the same Linear as a Gemm, where it is a MatMul without a bias of matrices.
    pub fn as_gemm(graph: &Graph, id: OpId) -> Option<Vec<Attribute>> {
        let linear = Self::at(graph, id)?;
        if linear.form != Form::MatMul(None) || linear.bias.is_some() || graph.rank(linear.output) != Some(2) {
            return None;
        }
        let mut attributes = graph.op(id).attributes().to_vec();
        attributes.iter_mut().filter(|it| it.name == FORM).for_each(|it| *it = Attribute::string(FORM, "Gemm"));
        Some(attributes)
    }

    /// What stands for a MatMul and the Add that alone reads it; reads x, weight and bias, writes what the Add wrote.
    pub fn of_mat_mul_add(graph: &Graph, mat_mul: OpId, add: OpId) -> Option<Op> {
        MatMul::at(graph, mat_mul)?;
        let product = graph.output(mat_mul, 0)?;
        let (first, second) = (graph.input(add, 0)?, graph.input(add, 1)?);
        let plain = graph.op(add).is("Add") && (first == product) != (second == product);
        if !plain || !graph.op(mat_mul).attributes().is_empty() || !graph.op(add).attributes().is_empty() {
            return None;
        }
        let node = graph.op(mat_mul);
        let mut op = with_form(stand_in(graph.op(add), "Linear"), "MatMul");
        let mut name = Attribute::string(PRODUCT, graph.value(product).name());
        name.carried = node.carried().clone();
        op.attributes.extend([
            name,
            Attribute::string(PRODUCT_NODE, node.name()),
            Attribute::string(PRODUCT_DOMAIN, node.domain()),
            Attribute::int(PRODUCT_ORDER, node.order_key() as i64),
            Attribute::int(BIAS_FIRST, (second == product).into()),
        ]);
        Some(op)
    }
}

fn with_form(mut op: Op, form: &str) -> Op {
    op.attributes.insert(0, Attribute::string(FORM, form));
    op
}

fn added_bias(op: &Op) -> Option<AddedBias> {
    let name = op.attributes().iter().find(|attribute| attribute.name == PRODUCT)?;
    let AttributeValue::String(_) = &name.value else { return None };
    Some(AddedBias {
        node: op.text(PRODUCT_NODE)?.to_owned(),
        domain: op.text(PRODUCT_DOMAIN)?.to_owned(),
        product: op.text(PRODUCT)?.to_owned(),
        order: if op.int(BIAS_FIRST)? == 0 { BiasOrder::ProductFirst } else { BiasOrder::BiasFirst },
        order_key: op.int(PRODUCT_ORDER)? as u64,
        carried: name.carried.clone(),
    })
}

pub(super) fn expand(expansion: &mut Expansion<'_>, id: OpId) -> Option<()> {
    let linear = Linear::at(expansion.graph, id)?;
    match (&linear.form, linear.bias) {
        (Form::Gemm, _) => expand_gemm(expansion, &linear),
        (Form::MatMul(_), None) => {
            let steps = expansion.of(id)?;
            let node = node_of(steps.op(), "MatMul", &OWN);
            steps.finish_with(node, &[Some(linear.x), Some(linear.weight)]);
            Some(())
        }
        (Form::MatMul(added), Some(bias)) => expand_mat_mul_add(expansion, &linear, added.as_ref(), bias),
    }
}

/// Below 11 a Gemm has to add something.
fn expand_gemm(expansion: &mut Expansion<'_>, linear: &Linear) -> Option<()> {
    let mut steps = expansion.of(linear.op)?;
    if linear.bias.is_some() || steps.graph().opset() >= 11 {
        let node = node_of(steps.op(), "Gemm", &OWN);
        let mut inputs = steps.graph().inputs_of(linear.op);
        while inputs.len() > 3 {
            inputs.pop();
        }
        steps.finish_with(node, &inputs);
        return Some(());
    }
    let zero = steps.scalar(0.0);
    let node = node_of(steps.op(), "Gemm", &OWN);
    steps.finish_with(node, &[Some(linear.x), Some(linear.weight), Some(zero)]);
    Some(())
}

fn expand_mat_mul_add(
    expansion: &mut Expansion<'_>,
    linear: &Linear,
    added: Option<&AddedBias>,
    bias: ValueId,
) -> Option<()> {
    let mut steps = expansion.of(linear.op)?;
    let graph = steps.graph();
    let (node, hint, order) = if let Some(added) = added {
        let node = Op::new(&*added.domain, "MatMul", vec![]).named(&*added.node);
        (node.with_carried(added.carried.clone()), added.product.clone(), added.order)
    } else {
        // The node keeps its name: it is the MatMul that was there before a pass gave it a bias.
        let node = Op::new(steps.op().text(STANDARD).unwrap_or(""), "MatMul", vec![]).named(steps.op().name());
        (node.with_carried(steps.op().carried().clone()), steps.hint("product"), BiasOrder::ProductFirst)
    };
    let inputs = [Some(linear.x), Some(linear.weight)];
    if let Some(added) = added {
        steps.patch().stand_at_key(added.order_key);
    }
    let (_, product) = steps.patch().op(graph, node, &inputs, &[Output::New(hint)]);
    let product = product[0]?;
    steps.patch().stand_at(graph, linear.op);
    let operands = match order {
        BiasOrder::BiasFirst => [Some(bias), Some(product)],
        BiasOrder::ProductFirst => [Some(product), Some(bias)],
    };
    let mut add = node_of(steps.op(), "Add", &OWN);
    add.attributes.clear();
    if added.is_none() && !add.name.is_empty() {
        add.name.push_str("_bias");
        add.carried = Carried::default();
    }
    steps.finish_with(add, &operands);
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::expand;
    use crate::ops::testing::{Scene, listing};
    use crate::patch::Patch;

    fn replace(graph: &mut Graph, op: Op, inputs: &[ValueId], at: OpId, gone: &[OpId]) -> OpId {
        let output = graph.output(at, 0).expect("an output");
        let mut patch = Patch::new(graph, "test", at);
        let inputs: Vec<Option<ValueId>> = inputs.iter().copied().map(Some).collect();
        let (id, _) = patch.op(graph, op, &inputs, &[Output::Take(output)]);
        for &op in gone {
            patch.remove(op);
        }
        patch.apply(graph).expect("applies");
        id
    }

    #[test]
    fn mat_mul_and_add_come_back_with_names_places_and_operand_order() {
        let mut scene = Scene::new(13);
        let (x, w, b) = (scene.input("x"), scene.input("w"), scene.input("b"));
        let (mat_mul, product) = scene.op(Op::new("", "MatMul", vec![]).named("mm"), &[x, w], "p");
        let (_, other) = scene.op(Op::new("", "Relu", vec![]).named("between"), &[x], "r");
        let (add, y) = scene.op(Op::new("", "Add", vec![]).named("add"), &[b, product], "y");
        scene.op(Op::new("", "Mul", vec![]).named("last"), &[other, y], "z");
        let mut graph = scene.finish();
        let before = listing(&graph);
        let op = Linear::of_mat_mul_add(&graph, mat_mul, add).expect("a linear");
        let id = replace(&mut graph, op, &[x, w, b], add, &[mat_mul, add]);
        let linear = Linear::at(&graph, id).expect("a linear");
        assert_eq!((linear.bias, linear.input_axis(), linear.output_axis()), (Some(b), 0, 1));
        assert!(matches!(linear.form, Form::MatMul(Some(AddedBias { order: BiasOrder::BiasFirst, .. }))));
        assert_eq!(listing(&expand(&graph, 13).expect("expands")), before);
    }

    #[test]
    fn a_gemm_comes_back_and_needs_a_summand_below_11() {
        let mut scene = Scene::new(13);
        let (x, w) = (scene.input("x"), scene.input("w"));
        let attributes = vec![Attribute::int("transB", 1), Attribute::float("alpha", 1.0)];
        let (gemm, _) = scene.op(Op::new("", "Gemm", attributes).named("fc"), &[x, w], "y");
        let mut graph = scene.finish();
        let before = format!("{:?}", graph.op(gemm));
        let op = Linear::of_gemm(&graph, gemm).expect("a linear");
        let id = replace(&mut graph, op, &[x, w], gemm, &[gemm]);
        assert_eq!(Linear::at(&graph, id).map(|view| (view.trans_b, view.output_axis())), Some((true, 0)));
        let after = expand(&graph, 13).expect("expands");
        assert_eq!(format!("{:?}", after.op(after.topological()[0])), before);
        graph.set_opset(10);
        assert_eq!(listing(&expand(&graph, 10).expect("expands")), ["fc: y = Gemm(x, w, scalar)"]);
    }

    #[test]
    fn a_bias_that_a_pass_adds_becomes_an_add() {
        let mut scene = Scene::new(13);
        let (x, w, b) = (scene.input("x"), scene.input("w"), scene.input("b"));
        let (mat_mul, _) = scene.op(Op::new("", "MatMul", vec![]).named("mm"), &[x, w], "y");
        let mut graph = scene.finish();
        let op = Linear::of_mat_mul(&graph, mat_mul).expect("a linear");
        replace(&mut graph, op, &[x, w, b], mat_mul, &[mat_mul]);
        let listing = listing(&expand(&graph, 13).expect("expands"));
        assert_eq!(listing, ["mm: y_product = MatMul(x, w)", "mm_bias: y = Add(y_product, b)"]);
    }

    #[test]
    fn factors_are_left_to_the_caller_and_a_transposed_input_is_none() {
        let mut scene = Scene::new(13);
        let (x, w) = (scene.input("x"), scene.input("w"));
        let factors = vec![Attribute::float("alpha", 0.5), Attribute::float("beta", 0.25)];
        let (scaled, _) = scene.op(Op::new("", "Gemm", factors), &[x, w, w], "a");
        let (turned, _) = scene.op(Op::new("", "Gemm", vec![Attribute::int("transA", 1)]), &[x, w], "c");
        let graph = scene.finish();
        let op = Linear::of_gemm(&graph, scaled).expect("a linear");
        assert!(op.float("alpha").is_none() && op.float("beta").is_none());
        assert!(Linear::of_gemm(&graph, turned).is_none());
    }
}
