#!/bin/sh
# The whole job on the bundled data: pretrain, transfer in all modes, evaluate, report. Used by `make demo`.
set -eu

RUNS=${RUNS:-runs/demo-$(date +%Y%m%d-%H%M%S)}

tltool pretrain data=demo runs="$RUNS" "$@"
tltool transfer -m target=bulk_modulus mode=scratch,finetune,freeze,features split.train_size=100 runs="$RUNS"
tltool eval runs="$RUNS"
tltool report runs="$RUNS" output="$RUNS/report"
