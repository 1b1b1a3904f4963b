// Half precision is defined in language.h, which every source has already.
