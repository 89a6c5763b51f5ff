import torch
from support import fresh_model
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from tltool.training.ema import average_of, follow


def test_the_average_is_that_of_pytorch_to_the_bit() -> None:
    model = fresh_model()
    expected = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=True)
    mine = None
    for _ in range(4):
        with torch.no_grad():
            for table in (*model.parameters(), *model.buffers()):
                table += torch.rand_like(table)
        expected.update_parameters(model)
        if mine is None:
            mine = average_of(model)
        else:
            follow(mine, 0.9)
    assert mine is not None
    wanted = expected.module.state_dict()
    assert all(torch.equal(table, wanted[name]) for name, table in mine.model.state_dict().items())
    assert not any(torch.equal(p, q) for p, q in zip(mine.model.parameters(), model.parameters(), strict=True))
