#!/bin/sh
# The C++ compiler with sanitizers for addresses and undefined behaviour, for CXX: see `make sanitize`.
exec g++ "$@" -O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all
