"""The kernels of ``cgcnn_triton.py``: the gated sum of CGCNN, two passes over the edges each way.

What an edge adds up from its receiver, its neighbour and its distance is added up anew in each pass, from tables that
stay in the cache of the device. A program takes a node with its edges, in blocks, so that sums into a node need no
atomic operation. Nodes of multiplicity 0, which are padding, are left out. Sizes as in ``crystal_graph``; f features, w
= 2f gates and messages; p programs that share the nodes among them. Rows are c-contiguous; whole numbers are int64.
"""

# mypy: disable-error-code="no-untyped-def, untyped-decorator, no-untyped-call"
import triton
import triton.language as tl


@triton.jit
def _range(first_edge, multiplicity, node):
    """Return where the edges of ``node`` begin and end, nowhere if it is padding."""
    begin = tl.load(first_edge + node)
    end = tl.load(first_edge + node + 1)
    return begin, tl.where(tl.load(multiplicity + node) > 0, end, begin)


@triton.jit
def _centred(a, b, c, mean, node, j, k, live, column, inside, F: tl.constexpr):
    """Return (EDGES, BLOCK) of the edges less their mean: from row ``node`` of a, rows ``j`` of b and ``k`` of c."""
    own = tl.load(a + node * 2 * F + column, mask=inside, other=0.0) - tl.load(mean + column, mask=inside, other=0.0)
    both = live[:, None] & inside[None, :]
    other = tl.load(b + j[:, None] * 2 * F + column[None, :], mask=both, other=0.0)
    far = tl.load(c + k[:, None] * 2 * F + column[None, :], mask=both, other=0.0)
    return own[None, :] + other + far


@triton.jit
def _opened(x):
    """Return sigmoid(x)."""
    return 1.0 / (1.0 + tl.exp(-x))


@triton.jit
def _softplus(x):
    return tl.maximum(x, 0.0) + tl.log(1.0 + tl.exp(-tl.abs(x)))


@triton.jit
def _halves(table, column, inside, F: tl.constexpr):
    """Return the gates' and the messages' half (BLOCK,) of a row (w,)."""
    gates = tl.load(table + column, mask=inside, other=0.0)
    return gates, tl.load(table + F + column, mask=inside, other=0.0)


@triton.jit
def _slopes(
    a, b, c, mean, node, j, k, live, column, inside, through, factor_g, factor_m, bias_g, bias_m, F: tl.constexpr
):
    """Return the edges less their mean, gates and messages, and the slopes of both given what flows ``through``."""
    centred_g = _centred(a, b, c, mean, node, j, k, live, column, inside, F)
    centred_m = _centred(a, b, c, mean, node, j, k, live, column + F, inside, F)
    opened = _opened(centred_g * factor_g[None, :] + bias_g[None, :])
    message = centred_m * factor_m[None, :] + bias_m[None, :]
    return (
        centred_g,
        centred_m,
        through * _softplus(message) * opened * (1.0 - opened),
        through * opened * _opened(message),
    )


@triton.jit
def variance(
    a, b, c, mean, first_edge, multiplicity, neighbour, distance, edge_multiplicity, share, out, n,
    F: tl.constexpr, BLOCK: tl.constexpr, EDGES: tl.constexpr,
):  # fmt: skip
    """Sum the squares of what each program's edges are off the mean, by share: ``out`` (p, w)."""
    program = tl.program_id(0)
    column = tl.arange(0, BLOCK)
    inside = column < F
    gates = tl.zeros((BLOCK,), dtype=a.dtype.element_ty)
    messages = tl.zeros((BLOCK,), dtype=a.dtype.element_ty)
    for node in range(program, n, tl.num_programs(0)):
        begin, end = _range(first_edge, multiplicity, node)
        for start in range(begin, end, EDGES):
            edge = start + tl.arange(0, EDGES)
            live = edge < end
            j = tl.load(neighbour + edge, mask=live, other=0)
            k = tl.load(distance + edge, mask=live, other=0)
            weight = tl.load(share + edge, mask=live, other=0.0)[:, None]
            gate = _centred(a, b, c, mean, node, j, k, live, column, inside, F)
            message = _centred(a, b, c, mean, node, j, k, live, column + F, inside, F)
            gates += tl.sum(weight * gate * gate, 0)
            messages += tl.sum(weight * message * message, 0)
    tl.store(out + program * 2 * F + column, gates, mask=inside)
    tl.store(out + program * 2 * F + F + column, messages, mask=inside)


@triton.jit
def forward(
    a, b, c, mean, factor, bias, first_edge, multiplicity, neighbour, distance, edge_multiplicity, share, out,
    F: tl.constexpr, BLOCK: tl.constexpr, EDGES: tl.constexpr,
):  # fmt: skip
    """Sum the gated messages into each node: ``out`` (n, f)."""
    node = tl.program_id(0)
    column = tl.arange(0, BLOCK)
    inside = column < F
    factor_g, factor_m = _halves(factor, column, inside, F)
    bias_g, bias_m = _halves(bias, column, inside, F)
    total = tl.zeros((BLOCK,), dtype=a.dtype.element_ty)
    begin, end = _range(first_edge, multiplicity, node)
    for start in range(begin, end, EDGES):
        edge = start + tl.arange(0, EDGES)
        live = edge < end
        j = tl.load(neighbour + edge, mask=live, other=0)
        k = tl.load(distance + edge, mask=live, other=0)
        times = tl.load(edge_multiplicity + edge, mask=live, other=0.0)[:, None]
        gate = _centred(a, b, c, mean, node, j, k, live, column, inside, F) * factor_g[None, :] + bias_g[None, :]
        message = _centred(a, b, c, mean, node, j, k, live, column + F, inside, F) * factor_m[None, :] + bias_m[None, :]
        total += tl.sum(times * _opened(gate) * _softplus(message), 0)
    tl.store(out + node * F + column, total, mask=inside)


@triton.jit
def slopes(
    a, b, c, mean, factor, bias, first_edge, multiplicity, neighbour, distance, edge_multiplicity, share, upstream, out,
    n, F: tl.constexpr, BLOCK: tl.constexpr, EDGES: tl.constexpr,
):  # fmt: skip
    """Sum over each program's edges the slopes of what is normalised, and these times it: ``out`` (p, 2w)."""
    program = tl.program_id(0)
    column = tl.arange(0, BLOCK)
    inside = column < F
    factor_g, factor_m = _halves(factor, column, inside, F)
    bias_g, bias_m = _halves(bias, column, inside, F)
    by_bias_g = tl.zeros((BLOCK,), dtype=a.dtype.element_ty)
    by_bias_m = tl.zeros((BLOCK,), dtype=a.dtype.element_ty)
    by_scale_g = tl.zeros((BLOCK,), dtype=a.dtype.element_ty)
    by_scale_m = tl.zeros((BLOCK,), dtype=a.dtype.element_ty)
    for node in range(program, n, tl.num_programs(0)):
        begin, end = _range(first_edge, multiplicity, node)
        flow = tl.load(upstream + node * F + column, mask=inside, other=0.0)
        for start in range(begin, end, EDGES):
            edge = start + tl.arange(0, EDGES)
            live = edge < end
            j = tl.load(neighbour + edge, mask=live, other=0)
            k = tl.load(distance + edge, mask=live, other=0)
            through = tl.load(edge_multiplicity + edge, mask=live, other=0.0)[:, None] * flow[None, :]
            centred_g, centred_m, slope_g, slope_m = _slopes(
                a, b, c, mean, node, j, k, live, column, inside, through, factor_g, factor_m, bias_g, bias_m, F
            )
            by_bias_g += tl.sum(slope_g, 0)
            by_bias_m += tl.sum(slope_m, 0)
            by_scale_g += tl.sum(slope_g * centred_g, 0)
            by_scale_m += tl.sum(slope_m * centred_m, 0)
    own = out + program * 4 * F + column
    tl.store(own, by_bias_g, mask=inside)
    tl.store(own + F, by_bias_m, mask=inside)
    tl.store(own + 2 * F, by_scale_g, mask=inside)
    tl.store(own + 3 * F, by_scale_m, mask=inside)


@triton.jit
def backward(
    a, b, c, mean, factor, bias, first_edge, multiplicity, neighbour, distance, edge_multiplicity, share, upstream,
    d_bias, d_spread, d_a, d_b, d_c, F: tl.constexpr, BLOCK: tl.constexpr, EDGES: tl.constexpr,
):  # fmt: skip
    """Write ``d_a``, add to ``d_b`` and ``d_c``; ``d_bias`` and ``d_spread`` (w,) flow through mean and variance."""
    node = tl.program_id(0)
    column = tl.arange(0, BLOCK)
    inside = column < F
    factor_g, factor_m = _halves(factor, column, inside, F)
    bias_g, bias_m = _halves(bias, column, inside, F)
    mean_g, mean_m = _halves(d_bias, column, inside, F)
    spread_g, spread_m = _halves(d_spread, column, inside, F)
    flow = tl.load(upstream + node * F + column, mask=inside, other=0.0)
    total_g = tl.zeros((BLOCK,), dtype=a.dtype.element_ty)
    total_m = tl.zeros((BLOCK,), dtype=a.dtype.element_ty)
    begin, end = _range(first_edge, multiplicity, node)
    for start in range(begin, end, EDGES):
        edge = start + tl.arange(0, EDGES)
        live = edge < end
        j = tl.load(neighbour + edge, mask=live, other=0)
        k = tl.load(distance + edge, mask=live, other=0)
        through = tl.load(edge_multiplicity + edge, mask=live, other=0.0)[:, None] * flow[None, :]
        weight = tl.load(share + edge, mask=live, other=0.0)[:, None]
        centred_g, centred_m, slope_g, slope_m = _slopes(
            a, b, c, mean, node, j, k, live, column, inside, through, factor_g, factor_m, bias_g, bias_m, F
        )
        slope_g = (slope_g - weight * (mean_g[None, :] + centred_g * spread_g[None, :])) * factor_g[None, :]
        slope_m = (slope_m - weight * (mean_m[None, :] + centred_m * spread_m[None, :])) * factor_m[None, :]
        both = live[:, None] & inside[None, :]
        total_g += tl.sum(tl.where(both, slope_g, 0.0), 0)
        total_m += tl.sum(tl.where(both, slope_m, 0.0), 0)
        to_b = d_b + j[:, None] * 2 * F + column[None, :]
        to_c = d_c + k[:, None] * 2 * F + column[None, :]
        tl.atomic_add(to_b, slope_g, mask=both, sem="relaxed")
        tl.atomic_add(to_b + F, slope_m, mask=both, sem="relaxed")
        tl.atomic_add(to_c, slope_g, mask=both, sem="relaxed")
        tl.atomic_add(to_c + F, slope_m, mask=both, sem="relaxed")
    tl.store(d_a + node * 2 * F + column, total_g, mask=inside)
    tl.store(d_a + node * 2 * F + F + column, total_m, mask=inside)
