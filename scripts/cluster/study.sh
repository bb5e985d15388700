#!/bin/bash
# The runs of a study as a job array: each task executes the run of its number. `recsys-lab study plan FILE` shows the numbers.
#
#   recsys-lab study plan study.yaml                                   once, where there is a network
#   sbatch --array=0-5 --partition=gpu --gpus-per-node=1 scripts/cluster/study.sh study.yaml
#   sbatch --array=0-5 --nodes=4 --ntasks-per-node=8 --gpus-per-node=8 scripts/cluster/study.sh study.yaml
#
# What follows goes to `recsys-lab study run`. With --workers a task takes whichever runs nobody has, so many at a time,
# until none is left: for many short runs.
#
#   sbatch --array=0-1 --gpus-per-node=8 --cpus-per-task=32 scripts/cluster/study.sh study.yaml --workers 8
#
# Two minutes before the time is up the runs are stopped, and the task queued again: they go on from their last epoch.
#SBATCH --job-name=study
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=4
#SBATCH --time=04:00:00
#SBATCH --signal=B:USR2@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%A_%a.out
set -euo pipefail

source .venv/bin/activate
own=(--index "$SLURM_ARRAY_TASK_ID" --workers 1 --gpus_per_run "${SLURM_GPUS_ON_NODE:-1}")
case " $* " in *" --workers "*) own=() ;; esac

out_of_time=
trap 'out_of_time=yes; kill -TERM $!' USR2 # stops the runs as Ctrl-C does: they keep their finished epochs
code=0
recsys-lab study run "$@" "${own[@]}" &
wait $! || code=$?
if [ "$out_of_time" ]; then # the signal ended the wait, not the runs
  code=0
  wait $! || code=$?
  if [ "$code" != 0 ] && [ "${SLURM_RESTART_COUNT:-0}" -lt 10 ]; then
    scontrol requeue "${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID"
  fi
fi
exit "$code"
