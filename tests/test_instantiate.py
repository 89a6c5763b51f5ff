import pytest

from tltool import instantiate
from tltool.errors import ConfigError


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "builtins.eval",
        "logging.os.system",
        "tltool.training.saved_model.checkpoint.shutil.rmtree",
        "tltool.run_folder.environment.subprocess.run",
        "torch.load",
        "torch.optim.lr_scheduler.warnings.warn",
        "sklearn.utils.estimator_html_repr",
        "sklearn.datasets.fetch_openml",
        "tltoolx.anything",
        "tltool",
        7,
    ],
)
def test_what_may_not_be_named(target: object) -> None:
    with pytest.raises(ConfigError, match=r"may not be used|does not exist"):
        instantiate.locate(target)  # type: ignore[arg-type]


def test_a_listed_package_may_be_named() -> None:
    assert instantiate.locate("json.loads", ["json"])("[1]") == [1]


def test_missing_things_are_named() -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        instantiate.locate("tltool.model.encoders.cgcnn.CGNN")
    with pytest.raises(ConfigError, match="does not exist"):
        instantiate.locate("tltool.model.encoders.nothing.CGCNN")
    with pytest.raises(ConfigError, match="needs _target_"):
        instantiate.call({"dim": 3})
    with pytest.raises(ConfigError, match=r"takes no 'alphaa'\. Did you mean 'alpha'"):
        instantiate.call({"_target_": "sklearn.linear_model.Ridge", "alphaa": 1})
    with pytest.raises(ConfigError, match="needs depth, dropout"):
        instantiate.call({"_target_": "tltool.model.layers.mlp.Trunk", "width": 3}, 4)


def test_nested_nodes_are_called_first() -> None:
    node = {
        "_target_": "sklearn.gaussian_process.GaussianProcessRegressor",
        "kernel": {"_target_": "sklearn.gaussian_process.kernels.RBF", "length_scale": 2.0},
    }
    assert instantiate.call(node).kernel.length_scale == 2.0
    assert instantiate.call({"_target_": "sklearn.linear_model.RidgeCV", "alphas": [1, 2]}).alphas == [1, 2]


def test_plugs_that_a_function_calls_itself_are_bound_and_checked_at_once() -> None:
    scratch = {"_target_": "tltool.transfer.scratch.scratch"}
    node = {"_target_": "tltool.transfer.auto.auto", "folds": 5, "tolerance": 1.0, "most_rows": {}, "max_seconds": None}
    node |= {"most_members": 4, "without_source": [], "max_seconds_per_row": 0.0}
    found = instantiate.bound(node | {"candidates": {"plain": scratch}}).keywords["candidates"]["plain"]
    assert (found.func.__name__, found.keywords) == ("scratch", {})
    with pytest.raises(ConfigError, match="takes no 'rate'"):
        instantiate.bound(node | {"candidates": {"plain": scratch | {"rate": 1}}})
    with pytest.raises(ConfigError, match="needs _target_"):
        instantiate.bound(node | {"candidates": {"plain": {"rate": 1}}})


def test_what_modes_share_is_no_mode() -> None:
    with pytest.raises(ConfigError, match="may not be used"):
        instantiate.locate("tltool.transfer.steps.load_report.announce", place="mode")
