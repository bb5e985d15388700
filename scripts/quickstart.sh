#!/usr/bin/env bash
# From nothing to a comparison: GRU4Rec, LSTMAttention, SASRec and popularity on MovieLens-100K, in under ten minutes on
# two cores. Finished runs are reused.
#
#   scripts/quickstart.sh             downloads MovieLens-100K; where that can't be had, goes on with synthetic data
#   scripts/quickstart.sh --offline   uses the synthetic data set: no download of data
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

dataset=ml-100k
for argument in "$@"; do
  case $argument in
    --offline) dataset=synthetic ;;
    -h | --help) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"; exit 0 ;;
    *) echo "quickstart: unknown option '$argument'; known: --offline, --help" >&2; exit 2 ;;
  esac
done

started=$SECONDS
bash scripts/setup.sh
lab=.venv/bin/recsys-lab

echo "quickstart: data"
if [ "$dataset" = ml-100k ] && ! "$lab" prepare ml-100k; then
  echo "quickstart: MovieLens-100K can't be had from anywhere (see above); going on with the synthetic data set"
  dataset=synthetic
fi
[ "$dataset" = synthetic ] && "$lab" prepare synthetic

# At most so long per model, so that all of it stays under ten minutes; `stopped by` in the table says who hit it.
options=(--trainer.max_time 00:00:02:00 --trainer.enable_model_summary false)
options+=(--data.dataset "$dataset" --run.study "quickstart-$dataset" --run.overwrite true)
[ -t 1 ] || options+=(--trainer.enable_progress_bar false)

for model in popularity gru4rec lstm_attention sasrec; do
  config=configs/ml-100k/$model.yaml
  folder=runs/quickstart-$dataset/$model/seed0
  stamp=$(cksum < "$config")
  if [ "$(cat "$folder/quickstart.stamp" 2>/dev/null)" = "$stamp" ]; then
    echo "quickstart: reusing the finished run $folder"
    continue
  fi
  echo "quickstart: $model"
  "$lab" fit --config "$config" "${options[@]}"
  echo "$stamp" > "$folder/quickstart.stamp"
done

echo
"$lab" compare "runs/quickstart-$dataset"
echo
echo "quickstart: $((SECONDS - started)) s. Run folders: runs/quickstart-$dataset/"
echo "quickstart: to go on, in this terminal: source .venv/bin/activate; recsys-lab --help"
