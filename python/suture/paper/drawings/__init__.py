# SPDX-License-Identifier: Apache-2.0
"""Figures of the experiments, a module for each: from its result to SVG by name."""
