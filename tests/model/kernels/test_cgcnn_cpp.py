import copy
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from support import FULL, QUOTIENT, fresh_model

from tltool.crystal_graph import Graph
from tltool.data.batches import tensor_table
from tltool.data.graph import crystal_graphs
from tltool.data.record import Crystal
from tltool.model import message_passing
from tltool.model.encoders.cgcnn import Convolution
from tltool.model.kernels import cgcnn_cpp, cpp_library, install, rows_cpp
from tltool.model.kernels.cpp_kernels import CppKernels
from tltool.model.kernels.install import Kernels
from tltool.model.layers.basis import Gaussians

pytestmark = pytest.mark.skipif(cpp_library.compiler() is None, reason="no C++ compiler is here")


def batch(crystals: list[Crystal], graph_settings=QUOTIENT) -> Graph:
    return tensor_table.table(crystal_graphs.build(crystals, graph_settings)).select(torch.arange(len(crystals)))


def lonely() -> Crystal:
    return Crystal(30 * np.eye(3), np.zeros((1, 3)), np.array([2]))


def a_block(dim: int = 32, seed: int = 0) -> Convolution:
    torch.manual_seed(seed)
    block = Convolution(dim, 12).to(torch.get_default_dtype())
    for norm in (block.norm_edges, block.norm_sites):
        with torch.no_grad():
            norm.scale.normal_()
            norm.bias.normal_()
        norm.mean.normal_()
        # Arguments stay below 20, above which PyTorch's softplus leaves out what it adds to its argument.
        norm.variance.uniform_(2, 8)
    return block


def run(
    cpp: CppKernels | None, block: Convolution, sites: torch.Tensor, basis: torch.Tensor, graph: Graph
) -> torch.Tensor:
    """What the block makes of ``sites``, with compiled kernels or in plain PyTorch."""
    if cpp is None:
        return block(sites, basis, graph)
    assert cgcnn_cpp.fits(cpp, graph, sites, basis)
    return cgcnn_cpp.convolutions(cpp, graph, sites, basis, [cgcnn_cpp.of_block(block)])[1]


def results(cpp: CppKernels | None, block: Convolution, graph: Graph) -> dict[str, torch.Tensor]:
    """Output, gradients and running statistics of a copy of the block."""
    block = copy.deepcopy(block)
    draw = torch.Generator().manual_seed(1)
    dim = block.norm_sites.scale.shape[0]
    sites = torch.randn(graph.n_nodes, dim, generator=draw).requires_grad_()
    basis = torch.exp(-((graph.distance[:, None] - torch.linspace(0, 6, 12)) ** 2) * 4)
    out = run(cpp, block, sites, basis, graph)
    out.backward(torch.randn(graph.n_nodes, dim, generator=draw))
    assert sites.grad is not None
    gradients = {name: p.grad for name, p in block.named_parameters() if p.grad is not None}
    found = {"out": out.detach(), "sites": sites.grad, **gradients, **dict(block.named_buffers())}
    with torch.no_grad():
        return found | {"without gradients": run(cpp, block.eval(), sites, basis, graph)}


def assert_equal(cpp: CppKernels, block: Convolution, graph: Graph, tolerance: float) -> None:
    plain, mine = (results(of, block, graph) for of in (None, cpp))
    assert plain.keys() == mine.keys()
    # A bias before a normalisation has a gradient of zero up to rounding, so no size counts as next to nothing.
    sizes = {name: float(table.abs().max()) for name, table in plain.items()}
    for name, size in sizes.items():
        least = max(sizes.values()) / 20
        assert float((plain[name] - mine[name]).abs().max()) < tolerance * max(size, least), name


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("graph_settings", [QUOTIENT, FULL], ids=["quotient", "full"])
@pytest.mark.parametrize("edges", [True, False])
@pytest.mark.parametrize("sites", [True, False])
def test_a_block_equals_the_plain_one(
    crystals: list[Crystal], graph_settings, edges: bool, sites: bool, cpp: CppKernels
) -> None:
    block = a_block()
    block.norm_edges.train(edges)
    block.norm_sites.train(sites)
    assert_equal(cpp, block, batch([*crystals[:15], lonely()], graph_settings), 1e-12)


@pytest.mark.parametrize("training", [True, False])
def test_a_block_equals_the_plain_one_in_single_precision(
    crystals: list[Crystal], training: bool, cpp: CppKernels
) -> None:
    # Of gradients through a normalisation either form is off by 2e-6, as the same in double precision shows.
    assert_equal(cpp, a_block(64).train(training), batch(crystals), 4e-6 if training else 1e-6)


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("dim", [16, 48])
def test_other_widths(crystals: list[Crystal], dim: int, cpp: CppKernels) -> None:
    assert_equal(cpp, a_block(dim), batch(crystals[:5]), 1e-12)


def test_what_the_kernels_do_not_take_is_plain(crystals: list[Crystal], cpp: CppKernels) -> None:
    graph = batch(crystals[:5])
    sites, basis = torch.zeros(graph.n_nodes, 32), torch.zeros(len(graph.distance), 12)
    assert cgcnn_cpp.fits(cpp, graph, sites, basis)
    assert not cgcnn_cpp.fits(cpp, graph, sites[:, :24], basis)
    assert not cgcnn_cpp.fits(cpp, graph, sites.half(), basis)
    assert not cgcnn_cpp.fits(cpp, graph, sites.double(), basis)
    assert not cgcnn_cpp.fits(cpp, graph, sites.to("meta"), basis)
    assert not cgcnn_cpp.fits(cpp, graph, sites, basis.clone().requires_grad_())


@pytest.mark.usefixtures("double")
def test_no_edge_at_all(cpp: CppKernels) -> None:
    assert_equal(cpp, a_block(), batch([lonely(), lonely()]), 1e-12)


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("training", [True, False])
def test_gradients_are_those_of_the_function(crystals: list[Crystal], training: bool, cpp: CppKernels) -> None:
    graph = batch([c for c in crystals if len(c.numbers) < 3][:2])
    block = a_block(16).train(training)
    basis = torch.rand(len(graph.distance), 12)

    def function(sites: torch.Tensor, *weights: torch.Tensor) -> torch.Tensor:
        parts = cgcnn_cpp.of_block(block)._replace(weights=cgcnn_cpp.Weights(*weights))
        return cgcnn_cpp.convolutions(cpp, graph, sites, basis, [parts])[1]

    inputs = [
        torch.randn(graph.n_nodes, 16),
        *(weight.detach().clone() for weight in cgcnn_cpp.of_block(block).weights),
    ]
    assert torch.autograd.gradcheck(function, [x.requires_grad_() for x in inputs], fast_mode=True)


@pytest.mark.parametrize("training", [True, False])
def test_a_model_predicts_and_learns_the_same(crystals: list[Crystal], training: bool, cpp: CppKernels) -> None:
    graph, found = batch(crystals), []
    for name in ("torch", "compiled"):
        model = fresh_model().train(training)
        install.choose(name, folder=cpp.folder).install(model)
        out = model(graph)
        out.square().sum().backward()
        found.append([out.detach(), *(p.grad for p in model.parameters() if p.grad is not None)])
    for plain, mine in zip(*found, strict=True):
        assert float((plain - mine).abs().max()) < 1e-5 * max(1.0, float(plain.abs().max()))


@pytest.mark.usefixtures("double")
def test_what_is_around_the_convolutions_equals_the_plain_form(crystals: list[Crystal], cpp: CppKernels) -> None:
    graph, found = batch(crystals), []
    draw = torch.Generator().manual_seed(0)
    inputs = [torch.randn(shape, generator=draw) for shape in ((119, 7), (graph.n_nodes, 7))]
    kernels = Kernels("compiled", cpp)
    for compiled in (False, True):
        graph.cache.clear()
        table, sites = (given.clone().requires_grad_() for given in inputs)
        rows = rows_cpp.spread(cpp, table, graph.number) if compiled else table.index_select(0, graph.number)
        pool, bases = fresh_model(), [Gaussians(n=n, stop=8.0) for n in (3, 8, 41)]
        for part in (pool, *bases) if compiled else ():
            kernels.install(part)
        out = [rows, message_passing.crystal_mean(graph.using(pool.operations), sites)]
        sum((part.square().sum() for part in out), torch.zeros(())).backward()
        heights = [basis(torch.linspace(0, 40, 50)) for basis in bases]
        found.append([*out, table.grad, sites.grad, *heights])
    for plain, mine in zip(*found, strict=True):
        torch.testing.assert_close(mine, plain, atol=1e-13, rtol=1e-12)


def test_two_backward_passes_give_the_same(crystals: list[Crystal], cpp: CppKernels) -> None:
    model, graph = fresh_model().train(), batch(crystals[:10])
    Kernels("compiled", cpp).install(model)
    out = model(graph).sum()
    first, second = (torch.autograd.grad(out, list(model.parameters()), retain_graph=True) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("frozen", [0, 1, 2, 3])
@pytest.mark.parametrize("of", [[-1], [1], [0, 2], [1, 2, 3]])
def test_every_level_learns_the_same_above_what_is_frozen(
    crystals: list[Crystal], frozen: int, of: list[int], cpp: CppKernels
) -> None:
    graph, found = batch(crystals[:20]), []
    for name in ("torch", "compiled"):
        encoder = fresh_model().encoder.train()
        if name == "compiled":
            Kernels(name, cpp).install(encoder)
        for part in (encoder.embedding, *encoder.blocks)[:frozen]:
            part.requires_grad_(False).eval()
        levels = encoder(graph)
        chosen = torch.cat([levels[level] for level in of], dim=1)
        if chosen.requires_grad:
            chosen.square().sum().backward()
        found.append([*(level.detach() for level in levels), *(p.grad for p in encoder.parameters())])
    for plain, mine in zip(*found, strict=True):
        assert (plain is None) == (mine is None) or not bool(mine.any())
        if plain is not None:
            torch.testing.assert_close(mine, plain, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("training", [True, False])
def test_threads_change_nothing(crystals: list[Crystal], training: bool, cpp: CppKernels) -> None:
    graph, found = batch(crystals * 5), []
    for count in (1, 3, "auto"):
        cpp.wanted = count
        found.append(results(cpp, a_block(64).train(training), graph))
    assert cpp.threads() in (1, 2)
    assert all(torch.equal(found[0][name], other[name]) for other in found[1:] for name in found[0])


def test_calls_from_several_threads(crystals: list[Crystal], cpp: CppKernels) -> None:
    cpp.wanted = 2
    block, several = a_block(32), [batch(crystals[k : k + 30]) for k in (0, 10, 20, 30)]
    alone = [results(cpp, block, graph) for graph in several]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            together = list(pool.map(lambda graph: results(cpp, block, graph), several))
            assert all(torch.equal(a[n], b[n]) for a, b in zip(alone, together, strict=True) for n in a)


def test_one_batch_serves_two_models(crystals: list[Crystal], cpp: CppKernels) -> None:
    graph, block = batch(crystals[:10]), a_block(16).eval()
    sites, basis = torch.randn(graph.n_nodes, 16), torch.rand(len(graph.distance), 12)
    other = torch.where(torch.rand_like(basis) < 0.5, basis, 0.0)
    alone = [run(cpp, block, sites, rows, batch(crystals[:10])) for rows in (basis, other)]
    together = [run(cpp, block, sites, rows, graph) for rows in (basis, other)]
    assert all(torch.equal(a, b) for a, b in zip(alone, together, strict=True))
    assert not torch.equal(*alone)


def test_what_is_not_a_number_stays_so(crystals: list[Crystal], cpp: CppKernels) -> None:
    graph, block = batch(crystals[:3]), a_block(16).eval()
    sites = torch.zeros(graph.n_nodes, 16)
    sites[0] = torch.nan
    assert run(cpp, block, sites, torch.rand(len(graph.distance), 12), graph)[0].isnan().all()


@pytest.mark.usefixtures("double")
def test_large_arguments(cpp: CppKernels) -> None:
    """A block that has no edge is the softplus of its sites shifted by a constant: from far below to far above."""
    graph, block = batch([lonely()] * 200), a_block(16).eval()
    sites = torch.linspace(-800, 800, 200)[:, None].expand(-1, 16).contiguous()
    shift = block.norm_sites(torch.zeros_like(sites), graph.multiplicity)
    out = run(cpp, block, sites, torch.empty(0, 12), graph)
    torch.testing.assert_close(out, torch.logaddexp(sites + shift, torch.zeros_like(sites)), atol=1e-12, rtol=1e-12)
