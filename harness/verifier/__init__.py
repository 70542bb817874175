"""The alpha,beta-CROWN engine: decides many inputs of one network together.

Names used throughout, in their usual meaning (Zhang et al. 2018; Xu et al. 2021; Wang et al. 2021):

===========  ==========================================================================================
`lb`, `ub`   elementwise lower and upper bounds, `(batch, *neurons)`
`A`          coefficients of a linear bound, one row for each bounded quantity, `(rows, *neurons)`
`const`      constant term of each row, `(rows,)`
`C`, `rhs`   rows of a property: a violation satisfies `C y <= rhs`, `(rows, outputs)` and `(rows,)`
`alpha`      lower slope of an unstable ReLU, in [0, 1]
`beta`       multiplier of a split constraint, >= 0
`owner`      which input of the batch a row belongs to, `(rows,)`
`t`          an input of the box in [-1, 1]: `x = centre + radius * t`
===========  ==========================================================================================

Rows carry their owner, so rows of many inputs, each with its own unstable neurons, share one tensor without padding.
"""
