// SPDX-License-Identifier: Apache-2.0
//
// suture_types.h - the types of the Suture C interface: status codes, handles, matrices, settings
// and reports, by subject in the folder suture_types. Written by hand; the functions are in
// suture.h, which includes this file.
//
// Shapes: tokens are rows. Everything multiplies from the right: h (N, d) times P (d, d').
// Enumerators are numbered explicitly and only ever appended to. Values that are not listed are
// refused as errors. Settings and report structs begin with `struct_size`: set it to sizeof of the
// struct, so that later versions can grow it; a zeroed remainder means the documented defaults.

#ifndef SUTURE_TYPES_H
#define SUTURE_TYPES_H

#include "suture_types/basics.h"
#include "suture_types/stitches.h"
#include "suture_types/autoencoders.h"
#include "suture_types/training.h"
#include "suture_types/probes.h"

#endif
