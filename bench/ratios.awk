# Reads the CSV of a Google Benchmark run with aggregates and prints the medians, each as a multiple of its group's
# yardstick. Benchmarks are named group/what; the yardstick is the one that is labelled so.
BEGIN { FS = "," }
/^name,/ {
  for (i = 1; i <= NF; ++i) column[$i] = i
  next
}
!("name" in column) { next }  # what comes before the table describes the machine
{
  gsub(/"/, "")
  name = $column["name"]
  if (name !~ /_median$/) next
  sub(/_median$/, "", name)
  sub(/\/real_time$/, "", name)
  group = name
  sub(/\/.*/, "", group)
  what[++n] = name
  time[name] = $column["real_time"]
  unit[name] = $column["time_unit"]
  group_of[name] = group
  if ($column["label"] == "yardstick") yardstick[group] = name
}
function row(name,   ratio) {
  ratio = "-"
  if (group_of[name] in yardstick) ratio = sprintf("%.2f", time[name] / time[yardstick[group_of[name]]])
  printf "  %-58s %11.1f %s %8s\n", substr(name, length(group_of[name]) + 2), time[name], unit[name], ratio
}
# With random interleaving the rows come in no order: groups as they come, the yardstick of each first.
END {
  for (i = 1; i <= n; ++i) {
    group = group_of[what[i]]
    if (group in done) continue
    done[group] = 1
    printf "%-60s %14s %8s\n", group, "median", "ratio"
    if (group in yardstick) row(yardstick[group])
    for (k = 1; k <= n; ++k)
      if (group_of[what[k]] == group && what[k] != yardstick[group]) row(what[k])
  }
  if (n == 0) {
    print "no medians in this file"
    exit 1
  }
}
