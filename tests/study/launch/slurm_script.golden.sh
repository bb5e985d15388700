#!/bin/bash
# Written by `recsys-lab study run`: one task of the array for each line of `runs`, which holds names of its runs.
#SBATCH --job-name=widths
#SBATCH --array=0-2%2
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --time=1-00:00:00
#SBATCH --cpus-per-task=8
#SBATCH --partition=gpu
#SBATCH --account=lab
#SBATCH --mem=64G
#SBATCH --mail-type=END
#SBATCH --signal=B:USR2@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=runs/widths/slurm/%A_%a.out
runs=(
  'v0/seed0 v1/seed0'
  'v2/seed0 v3/seed0'
  v4/seed0
)
module load cuda
out_of_time=
trap 'out_of_time=yes; kill -TERM $!' USR2 # stops the runs as Ctrl-C does: they keep their finished epochs
code=0
python -m recsys_lab.cli study run 'my study.yaml' --root runs --workers 1 --threads 8 --gpus_per_run 8 --run ${runs[$SLURM_ARRAY_TASK_ID]} &
wait $! || code=$?
if [ "$out_of_time" ]; then # the signal ended the wait, not the runs
  code=0
  wait $! || code=$?
  if [ "$code" != 0 ] && [ "${SLURM_RESTART_COUNT:-0}" -lt 10 ]; then
    scontrol requeue "${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID"
  fi
fi
exit "$code"

#!/bin/bash
# Written by `recsys-lab study run`: one task of the array for each line of `runs`, which holds names of its runs.
#SBATCH --job-name=widths
#SBATCH --array=0-0%2
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --time=1-00:00:00
#SBATCH --cpus-per-task=8
#SBATCH --partition=gpu
#SBATCH --account=lab
#SBATCH --mem=64G
#SBATCH --mail-type=END
#SBATCH --signal=B:USR2@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=runs/widths/slurm/%A_%a.out
runs=(
  v5/seed0
)
module load cuda
out_of_time=
trap 'out_of_time=yes; kill -TERM $!' USR2 # stops the runs as Ctrl-C does: they keep their finished epochs
code=0
python -m recsys_lab.cli study run 'my study.yaml' --root runs --workers 1 --threads 8 --gpus_per_run 8 --run ${runs[$SLURM_ARRAY_TASK_ID]} &
wait $! || code=$?
if [ "$out_of_time" ]; then # the signal ended the wait, not the runs
  code=0
  wait $! || code=$?
  if [ "$code" != 0 ] && [ "${SLURM_RESTART_COUNT:-0}" -lt 10 ]; then
    scontrol requeue "${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID"
  fi
fi
exit "$code"
