#!/bin/sh
#SBATCH --job-name=tltool
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=16
#SBATCH --time=24:00:00
#SBATCH --signal=B:TERM@300
#SBATCH --requeue
#SBATCH --open-mode=append
# One node with several GPUs: the runs of a sweep, one to a GPU; or one pretraining on all GPUs together.
#
#   sbatch scripts/slurm/one_node.sh transfer -m target=bulk_modulus mode=scratch,finetune seed=0,1,2,3
#   sbatch scripts/slurm/one_node.sh pretrain data=pbe data.root=DIR
#
# Without Slurm, as on a workstation: sh scripts/slurm/one_node.sh ... A job whose time is up goes on in its next turn:
# finished runs of the sweep are left out, a pretraining continues from its last saved state.
# SWEEP names the folder of a sweep. Set the lines of #SBATCH for your cluster, and load modules or a container here.
set -u

stage=${1:?name a stage, such as transfer}
shift
if [ -n "${CUDA_VISIBLE_DEVICES+set}" ]; then
    gpus=$(echo "$CUDA_VISIBLE_DEVICES" | tr ',' ' ')
else
    gpus=$(nvidia-smi -L 2>/dev/null | sed -n 's/^GPU \([0-9]*\):.*/\1/p' | tr '\n' ' ')
fi
# shellcheck disable=SC2086 # one word a GPU
number=$(set -- $gpus; echo $#)

case " $* " in
*" -m "*)
    # tltool itself gives each run of a sweep one of the GPUs.
    set -- tltool "$stage" "$@" hydra.sweep.dir="${SWEEP:-runs/$stage/sweep-${SLURM_JOB_ID:-here}}"
    ;;
*)
    if [ "$stage" = pretrain ]; then
        set -- "$@" resume=latest
    fi
    if [ "$number" -gt 1 ]; then
        set -- torchrun --standalone --nproc_per_node="$number" -m tltool "$stage" "$@"
    else
        set -- tltool "$stage" "$@"
    fi
    ;;
esac

echo "$*"
stopped=
"$@" &
run=$!
# Slurm signals this shell alone; what it started saves its state and ends.
trap 'stopped=yes; kill -TERM "$run" 2>/dev/null' TERM INT
wait "$run"
code=$?
# A signal ends the first wait; the second one has the exit code.
if [ -n "$stopped" ]; then
    wait "$run"
    code=$?
fi
if [ -n "$stopped" ] && [ "$code" -ne 0 ] && [ -n "${SLURM_JOB_ID-}" ]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
