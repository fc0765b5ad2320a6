#include "suture_types.h"
