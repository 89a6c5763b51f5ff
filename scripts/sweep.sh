#!/bin/sh
# A sweep on one workstation: modes x training sizes x seeds of one target, one table at the end.
#
#   tltool pretrain
#   sh scripts/sweep.sh
#   TARGET=dielectric SIZES="50 100 200" SEEDS="0 1 2" JOBS=2 sh scripts/sweep.sh
#   TARGET=folder SIZES=all sh scripts/sweep.sh target.data.root=DIR fit.epochs=50
#
# Where there are several GPUs, each run has one of them, and as many runs as there are GPUs go on at a time.
# Every word after it is an override of tltool transfer for all runs. SIZES=all trains on all training rows.
# Stop it with Ctrl-C and start it again: finished runs are skipped, a failed run is noted and passed over.
set -u

TARGET=${TARGET:-bulk_modulus}
MODES=${MODES:-"scratch finetune freeze features"}
SIZES=${SIZES:-"100"}
SEEDS=${SEEDS:-"0 1 2 3 4"}
SOURCE=${SOURCE:-latest}
SWEEP=${SWEEP:-runs/sweep-$TARGET}
# The GPUs as CUDA_VISIBLE_DEVICES calls them, with spaces between.
if [ -n "${CUDA_VISIBLE_DEVICES+set}" ]; then
    GPUS=$(echo "$CUDA_VISIBLE_DEVICES" | tr ',' ' ')
else
    GPUS=$(nvidia-smi -L 2>/dev/null | sed -n 's/^GPU \([0-9]*\):.*/\1/p' | tr '\n' ' ')
fi
number_of_gpus=$(set -- $GPUS; echo $#)
JOBS=${JOBS:-$((number_of_gpus > 1 ? number_of_gpus : 1))}

mkdir -p "$SWEEP" || exit 6
echo "$SOURCE $*" >"$SWEEP/overrides.new"
if [ -f "$SWEEP/overrides" ] && ! cmp -s "$SWEEP/overrides" "$SWEEP/overrides.new"; then
    echo "$SWEEP holds a sweep with other overrides ($(cat "$SWEEP/overrides")); name another folder with SWEEP=." >&2
    rm "$SWEEP/overrides.new"
    exit 2
fi
mv "$SWEEP/overrides.new" "$SWEEP/overrides"

started=
# Background jobs of a shell ignore Ctrl-C, so that each is terminated here: those of this sweep and no others.
trap 'trap - INT TERM; [ -z "$started" ] || kill -TERM $started 2>/dev/null; wait; exit 130' INT TERM

cell() {
    number=$1 mode=$2 size=$3 seed=$4
    shift 4
    folder=$SWEEP/$mode-$size-$seed
    if grep -qs '"state": "finished"' "$folder/status.json"; then
        echo "done before: $folder"
        return
    fi
    rm -rf "$folder"
    [ "$size" = all ] || set -- split.train_size="$size" "$@"
    set -- tltool transfer target="$TARGET" mode="$mode" seed="$seed" source="$SOURCE" "$@" hydra.run.dir="$folder"
    echo "run $number of $total: $*"
    if [ "$number_of_gpus" -gt 1 ]; then
        CUDA_VISIBLE_DEVICES=$(nth $(((number - 1) % number_of_gpus)) $GPUS)
        export CUDA_VISIBLE_DEVICES
    fi
    "$@" >"$folder.out" 2>&1 &
    run=$!
    trap 'kill -TERM "$run" 2>/dev/null; wait "$run"; exit 143' TERM
    if wait "$run"; then
        echo "done: $folder"
    else
        echo "failed with code $?: $folder (see $folder.out)"
    fi
}

count() { echo $#; }
# nth N WORD...: word N, from 0.
nth() { shift $(($1 + 1)); echo "$1"; }
total=$(($(count $MODES) * $(count $SIZES) * $(count $SEEDS)))
number=0
for seed in $SEEDS; do
    for size in $SIZES; do
        for mode in $MODES; do
            number=$((number + 1))
            cell "$number" "$mode" "$size" "$seed" "$@" &
            started="$started $!"
            if [ $((number % JOBS)) -eq 0 ]; then
                wait
                started=
            fi
        done
    done
done
wait
tltool report inputs="[$SWEEP]" output="$SWEEP/report"
