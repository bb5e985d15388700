#!/bin/bash

# Parameters
#SBATCH --account=lab
#SBATCH --array=0-2%2
#SBATCH --cpus-per-task=8
#SBATCH --gpus-per-node=8
#SBATCH --job-name=widths
#SBATCH --mail-type=END
#SBATCH --mem=64G
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=8
#SBATCH --open-mode=append
#SBATCH --output=FOLDER/widths/slurm/%A_%a_0_log.out
#SBATCH --partition=gpu
#SBATCH --requeue
#SBATCH --signal=USR2@120
#SBATCH --time=1440

# setup
module load cuda

# command
export SUBMITIT_EXECUTOR=slurm
srun --unbuffered --output FOLDER/widths/slurm/%A_%a_%t_log.out --cpus-per-task=8 --kill-on-bad-exit=1 PYTHON -u -m submitit.core._submit FOLDER/widths/slurm

# job 0: runs/widths/v0/seed0  runs/widths/v1/seed0
# job 1: runs/widths/v2/seed0  runs/widths/v3/seed0
# job 2: runs/widths/v4/seed0

#!/bin/bash

# Parameters
#SBATCH --account=lab
#SBATCH --cpus-per-task=8
#SBATCH --gpus-per-node=8
#SBATCH --job-name=widths
#SBATCH --mail-type=END
#SBATCH --mem=64G
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=8
#SBATCH --open-mode=append
#SBATCH --output=FOLDER/widths/slurm/%j_0_log.out
#SBATCH --partition=gpu
#SBATCH --requeue
#SBATCH --signal=USR2@120
#SBATCH --time=1440

# setup
module load cuda

# command
export SUBMITIT_EXECUTOR=slurm
srun --unbuffered --output FOLDER/widths/slurm/%j_%t_log.out --cpus-per-task=8 --kill-on-bad-exit=1 PYTHON -u -m submitit.core._submit FOLDER/widths/slurm

# job 0: runs/widths/v5/seed0
