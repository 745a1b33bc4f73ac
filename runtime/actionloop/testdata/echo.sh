#!/usr/bin/env bash
# Answers the whole request, as the value of "got", and the variables of its environment.
while IFS= read -r line; do
  echo "in bash" >&2
  printf '{"got":%s,"path":"%s"}\n' "$line" "$PATH" >&3
done
