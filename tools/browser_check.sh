#!/usr/bin/env bash
# Opens a report that drrik wrote in headless Chromium and checks what a person would see: a title,
# pictures that load, no script or resource errors; leaves screenshots in build/browser.
set -euo pipefail
cd "$(dirname "$0")/.."
out=build/browser
rm -rf "$out" && mkdir -p "$out"
build/release/bin/drrik run tools/browser_check.yaml --log-level WARNING
report=$PWD/$out/report.html
[ -s "$report" ] || { echo "no report at $report"; exit 1; }
chrome() {
  chromium --headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking \
    --disable-component-update --disable-sync --user-data-dir="$out/profile" --virtual-time-budget=5000 "$@" 2>"$out/chromium.log"
}
chrome --window-size=1200,1600 --screenshot="$out/report.png" "file://$report"
chrome --window-size=420,900 --screenshot="$out/report-narrow.png" "file://$report"
chrome --dump-dom "file://$report" >"$out/dom.html"
fail=0
grep -q '<title>[^<]*drrik' "$out/dom.html" || { echo "no title"; fail=1; }
[ "$(grep -o '<img' "$out/dom.html" | wc -l)" -ge 3 ] || { echo "fewer than three pictures"; fail=1; }
for picture in report report-narrow; do
  [ "$(stat -c %s "$out/$picture.png")" -gt 20000 ] || { echo "$picture.png looks blank"; fail=1; }
done
[ "$fail" -eq 0 ] && echo "report opens in Chromium: $(wc -c <"$report") bytes"
exit "$fail"
