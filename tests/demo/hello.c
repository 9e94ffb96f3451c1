// SPDX-License-Identifier: GPL-2.0
/* Compiled inside the union by run-demo.sh. */
#include <stdio.h>

int main(void)
{
	puts("compiled and run on the union");
	return 0;
}
