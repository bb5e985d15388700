#!/bin/bash
# One run on nodes with 8 GPUs each. SLURM starts one process per GPU, and Lightning finds them.
#
#   recsys-lab prepare ml-1m-sasrec                                           once, where there is a network
#   sbatch scripts/cluster/fit_8_gpus.sh                                      from the project's folder, which all nodes see
#   sbatch --nodes=4 scripts/cluster/fit_8_gpus.sh --data.batch_size 2        whatever follows goes to `recsys-lab fit`
#
# Two minutes before the time is up the run is stopped, and the job queued again: it goes on from that step.
#SBATCH --job-name=sasrec
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=4
#SBATCH --mem=64G
#SBATCH --time=04:00:00
#SBATCH --signal=B:USR2@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.out
set -euo pipefail

folder=runs/cluster/sasrec-${SLURM_NNODES}x8/seed0
fit=(--config configs/ml-1m-sasrec/sasrec.yaml --run.folder "$folder")
fit+=(--trainer.accelerator gpu --trainer.devices 8 --trainer.num_nodes "$SLURM_NNODES")
fit+=(--trainer.enable_progress_bar false)
if [ -f "$folder/checkpoints/last.ckpt" ]; then fit=("$folder"); fi # goes on, with the settings it began with

source .venv/bin/activate
export OMP_NUM_THREADS=$SLURM_CPUS_PER_TASK
# export NCCL_SOCKET_IFNAME=ib0  # where NCCL picks the wrong network between the nodes

out_of_time=
# every process finishes its step, and the checkpoint is written there
trap 'out_of_time=yes; scancel --signal=TERM "$SLURM_JOB_ID.0" || true' USR2
code=0
srun --cpus-per-task="$SLURM_CPUS_PER_TASK" --kill-on-bad-exit=1 recsys-lab fit "${fit[@]}" "$@" &
wait $! || code=$?
if [ "$out_of_time" ]; then # the signal ended the wait, not the run
  code=0
  wait $! || code=$?
  if [ "$code" != 0 ]; then scontrol requeue "$SLURM_JOB_ID"; fi
fi
exit "$code"
