package claim

//go:generate go tool bpf2go -go-package claim -target bpfel,bpfeb -cc clang -type port -type portstat -type reader -type lpmkey -type lpmkey6 -type addr6 -type flowkey -type ndkey -type way -type hop -type root -type neighkey -type neighkey6 -type carried -type arpbucket bpf bpf/claim.c -- -O2 -g -Wall -Werror -mcpu=v2 -I/usr/include/x86_64-linux-gnu -I/usr/include/aarch64-linux-gnu
