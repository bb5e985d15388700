#!/bin/bash
# The same through torchrun, on any number of nodes: SLURM starts one torchrun per node, and that one process per GPU.
#
#   sbatch scripts/cluster/torchrun.sh                         4 nodes x 8 GPUs
#   sbatch --nodes=1 scripts/cluster/torchrun.sh               1 node x 8 GPUs
#
# On one machine without SLURM:
#
#   torchrun --nproc-per-node=8 -m recsys_lab.cli fit --config configs/ml-1m-sasrec/sasrec.yaml --trainer.devices 8
#SBATCH --job-name=sasrec-torchrun
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=32
#SBATCH --mem=64G
#SBATCH --time=04:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.out
set -euo pipefail

gpus=8
folder=runs/cluster/sasrec-torchrun-${SLURM_NNODES}x$gpus/seed0
fit=(--config configs/ml-1m-sasrec/sasrec.yaml --run.folder "$folder")
fit+=(--trainer.accelerator gpu --trainer.devices "$gpus" --trainer.num_nodes "$SLURM_NNODES")
fit+=(--trainer.enable_progress_bar false)
if [ -f "$folder/checkpoints/last.ckpt" ]; then fit=("$folder"); fi # submitted again, it goes on from its last epoch

source .venv/bin/activate
export OMP_NUM_THREADS=$((SLURM_CPUS_PER_TASK / gpus))
export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 # else a process that starts again may read the address of a dead one
head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)

srun --cpus-per-task="$SLURM_CPUS_PER_TASK" --kill-on-bad-exit=1 torchrun \
  --nnodes="$SLURM_NNODES" --nproc-per-node="$gpus" --max-restarts=3 \
  --rdzv-id="$SLURM_JOB_ID" --rdzv-backend=c10d --rdzv-endpoint="$head:29500" \
  -m recsys_lab.cli fit "${fit[@]}" "$@"
