#!/bin/sh
# A sweep on one workstation: modes x training sizes x seeds of one target, one table at the end.
#
#   tltool pretrain
#   sh scripts/sweep.sh
#   TARGET=dielectric SIZES="50 100 200" SEEDS="0 1 2" JOBS=2 sh scripts/sweep.sh
#
# Stop it with Ctrl-C and start it again: finished cells are skipped, a failed cell is noted and passed over.
set -u

TARGET=${TARGET:-bulk_modulus}
MODES=${MODES:-"scratch finetune freeze features"}
SIZES=${SIZES:-"100"}
SEEDS=${SEEDS:-"0 1 2 3 4"}
SOURCE=${SOURCE:-latest}
SWEEP=${SWEEP:-runs/sweep-$TARGET}
JOBS=${JOBS:-1}

# Background jobs of a shell ignore Ctrl-C, so it is handed on to them here.
trap 'trap - INT TERM; kill 0; exit 130' INT TERM
mkdir -p "$SWEEP"

cell() {
    folder=$SWEEP/$1-$2-$3
    if grep -qs '"state": "finished"' "$folder/status.json"; then
        echo "done before: $folder"
        return
    fi
    rm -rf "$folder"
    if tltool transfer target="$TARGET" mode="$1" split.train_size="$2" seed="$3" source="$SOURCE" \
        hydra.run.dir="$folder" >"$folder.out" 2>&1; then
        echo "done: $folder"
    else
        echo "failed with code $?: $folder (see $folder.out)"
    fi
}

running=0
for seed in $SEEDS; do
    for size in $SIZES; do
        for mode in $MODES; do
            cell "$mode" "$size" "$seed" &
            running=$((running + 1))
            if [ "$running" -ge "$JOBS" ]; then
                wait
                running=0
            fi
        done
    done
done
wait
tltool report inputs="[$SWEEP]" output="$SWEEP/report"
