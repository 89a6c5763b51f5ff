"""What a step does is the same whether one or two processes take it, as ``torchrun`` sets them up.

Rank 1 is also tried as the one that gets no crystal of a batch.
"""

import torch
import torch.distributed as dist
from support import batches_of, fresh_model, graph_settings_of

from tltool.data import store
from tltool.data.batches.batches import Batches
from tltool.data.dataset import BUNDLED, Dataset
from tltool.data.graph import crystal_graphs
from tltool.model import all_reduce
from tltool.model.property_model import PropertyModel
from tltool.model.surgery.edit import new_heads
from tltool.training import distributed, loss
from tltool.training.fit import predict
from tltool.training.scaled_labels import scalers


def learnt(model: PropertyModel, data: Batches, size: int) -> dict[str, torch.Tensor]:
    """Return what a step on a batch of ``size`` leads to: loss, gradients, running statistics, predictions."""
    model.train()
    compute = distributed.shared(model, lambda model, batch: model.values(model.embed(batch.graph)), 64, seed=0)
    batch = next(distributed.parts(data.of("train", size)))
    value = loss.loss("huber", compute(model, batch), model.targets(batch.labels, batch.graph))
    value.backward()
    found = {"loss": value.detach(), "predicted": torch.from_numpy(predict(model, data, "val"))}
    found |= {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return found | {name: buffer.clone() for name, buffer in model.named_buffers()}


def compare(encoders: list[str]) -> None:
    """Take a step of each of the ``encoders`` alone and with the other rank; raise if they differ."""
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    demo = store.load(BUNDLED / "demo.h5")
    records = store.gather([demo.record(row) for row in range(24)], demo.attributes)
    for encoder in encoders:
        table = crystal_graphs.build([records.crystal(row) for row in range(len(records))], graph_settings_of(encoder))
        data = batches_of(Dataset(records, table))
        for size in (9, 1):
            models = [fresh_model(encoder=encoder) for _ in range(2)]
            for model in models:
                new_heads(model, scalers(data, reference=False, scale="linear"))
            models[1].load_state_dict(models[0].state_dict())
            alone = learnt(models[0], data, size)
            with all_reduce.joined():
                together = learnt(models[1], data, size)
            assert alone.keys() == together.keys()
            for name, expected in alone.items():
                torch.testing.assert_close(
                    together[name], expected, rtol=1e-8, atol=1e-10,
                    msg=lambda text, where=f"{encoder}, batch {size}, {name}": f"{where}: {text}",
                )  # fmt: skip
    dist.destroy_process_group()
