#!/bin/bash
# The same through torchrun, on any number of nodes: SLURM starts one torchrun per node, and that one process per GPU.
#
#   sbatch scripts/cluster/torchrun.sh                         4 nodes x 8 GPUs
#   sbatch --nodes=1 scripts/cluster/torchrun.sh               1 node x 8 GPUs
#
# On one machine without SLURM:
#
#   torchrun --nproc-per-node=8 -m recsys_lab.cli fit --config configs/ml-1m-sasrec/sasrec.yaml --trainer.devices 8
# Two minutes before the time is up the run is stopped, and the job queued again: it goes on from that step.
#SBATCH --job-name=sasrec-torchrun
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=32
#SBATCH --mem=64G
#SBATCH --time=04:00:00
#SBATCH --signal=B:USR2@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.out
set -euo pipefail

gpus=8
folder=runs/cluster/sasrec-torchrun-${SLURM_NNODES}x$gpus/seed0
fit=(--config configs/ml-1m-sasrec/sasrec.yaml --run.folder "$folder")
fit+=(--trainer.accelerator gpu --trainer.devices "$gpus" --trainer.num_nodes "$SLURM_NNODES")
fit+=(--trainer.enable_progress_bar false)
if [ -f "$folder/checkpoints/last.ckpt" ]; then fit=("$folder"); fi # goes on, with the settings it began with

source .venv/bin/activate
export OMP_NUM_THREADS=$((SLURM_CPUS_PER_TASK / gpus))
export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 # else a process that starts again may read the address of a dead one
head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)

# torchrun tells its processes: each finishes its step, and the checkpoint is written there
out_of_time=
trap 'out_of_time=yes; scancel --signal=TERM "$SLURM_JOB_ID.0" || true' USR2
code=0
srun --cpus-per-task="$SLURM_CPUS_PER_TASK" --kill-on-bad-exit=1 torchrun \
  --nnodes="$SLURM_NNODES" --nproc-per-node="$gpus" --max-restarts=3 \
  --rdzv-id="$SLURM_JOB_ID" --rdzv-backend=c10d --rdzv-endpoint="$head:29500" \
  -m recsys_lab.cli fit "${fit[@]}" "$@" &
wait $! || code=$?
if [ "$out_of_time" ]; then # the signal ended the wait, not the run
  code=0
  wait $! || code=$?
  if [ "$code" != 0 ]; then scontrol requeue "$SLURM_JOB_ID"; fi
fi
exit "$code"
